"""Secure aggregation: the portal learns the sum of the devices' updates and nothing else of them. Protocol `fp-sa/1`.

Each pair of devices agrees on a key that only they know, and one adds, the other subtracts the stream of numbers that
follows from it; so each vector by itself is noise and the sum of all is the sum of what they hide. A mask of its own
protects a device whose vector arrives late. What is needed to take the masks of absent devices off again is shared
among the others so that only a large majority of them can, and only for one agreed list of those who sent a vector.

| module       | what it holds                                                                      |
|--------------|------------------------------------------------------------------------------------|
| `sharing`    | Shamir's shares of a secret                                                         |
| `streams`    | the streams of numbers that hide, and how keys follow from an agreement             |
| `rings`      | whole numbers modulo 2³² or 2⁶⁴, and an update as a vector of them                  |
| `terms`      | what a session is held under, and what a device demands of it whatever a server says |
| `statements` | the messages that are signed, in one spelling                                       |
| `session`    | the device's half, from its keys to the shares that it gives                        |
| `groups`     | into which groups a large cohort is divided, as its devices draw them                |

The server's half is `training.privacy.unmasking`. Sources: Bonawitz et al., "Practical Secure Aggregation for
Privacy-Preserving Machine Learning", CCS 2017 (double masking, the round of consistency); Pasquini et al., "Eluding
Secure Aggregation in Federated Learning via Model Inconsistency", CCS 2022 (why the model is part of every key).
"""
