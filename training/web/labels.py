"""What people read in place of the names of fields and parameters."""

from __future__ import annotations

# Where a field is not called by its name with spaces.
LABELS = {
    "min_participants": "Least devices a round",
    "round_seconds": "Seconds a round may take",
    "standardise": "Standardise the columns",
    "evaluate": "Measure every round",
    "mode": "A round asks",
    "sample": "Devices a round asks",
    "over_selection": "Ask so many times the least",
    "quota": "Least of each organization",
    "cap": "Most of each organization",
    "stragglers": "Once enough have answered",
    "grace_seconds": "Seconds of grace",
    "schedule": "Slow devices",
    "buffer": "Answers for a model",
    "most_staleness": "Oldest start, in models",
    "staleness_exponent": "How fast older answers lose weight",
    "codec_fraction": "Share of the numbers",
    "codec_rows": "Rows of the table",
    "codec_columns": "Columns of the table",
    "most_update_bytes": "Most bytes a round",
    "local": "Stays on the devices",
    "trusted": "Trusted organization",
    "work_shares": "Less work for some devices",
    "privacy": "Privacy",
    "privacy.sums": "The portal sees of updates",
    "privacy.mechanism": "Noise is added by",
    "privacy.clip": "Clip of an update",
    "privacy.noise": "Noise, times the clip",
    "privacy.delta": "δ",
    "privacy.clipping": "The clip",
    "privacy.quantile": "Quantile that the clip follows",
    "privacy.least_devices": "Least devices of a sum",
    "privacy.most_weight": "Most weight of a device",
    "privacy.rate": "Sampling rate",
    "privacy.least_organizations": "Least organizations of a sum",
    "privacy.group": "Most devices of a sum",
    "faulty": "Faulty updates to withstand",
    "nnm": "Mix each with its nearest",
}


def label(name: str) -> str:
    """What people read in place of the name of a field or a strategy's parameter."""
    return LABELS.get(name, name.replace("_", " ").capitalize())
