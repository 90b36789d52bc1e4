"""Combining updates into a new model. Pure: numpy and `fedwire`, no Django, no clock, no randomness of its own.

layout → where the numbers lie · kernels → arithmetic on tiles of files · combine → one rule per way of combining ·
robust → rules that withstand wrong updates: coordinate and networks → each coordinate by itself, selecting and gram →
updates as wholes · transforms → what happens to each update before · server_opt → from the combined update to the new
model · memory → what the server step remembers from round to round · variates → the mean of what devices remember ·
strategy → what a composition is · strategies/ → those there are · assembly → the new model's file · metrics → merged
reports · anomaly → which updates are unlike the others.
"""
