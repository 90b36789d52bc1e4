"""The part of the catalogue of errors that is raised on devices, about their data and themselves, and never sent."""

from __future__ import annotations

from collections.abc import Mapping

from fedwire.error_kinds import ErrorKind

K = ErrorKind
ON_DEVICES: Mapping[str, ErrorKind] = {
    "data_missing": K(400, "The file {path} cannot be read: {reason}", "Check the path."),
    "file_unwritable": K(
        400, "The file {path} cannot be written: {reason}", "Name another place, with --output or --report."
    ),
    "data_empty": K(400, "The file {path} has no rows.", "Check that the export worked."),
    "data_no_target": K(
        400,
        "The file {path} has no column {target!r}; it has {columns}.",
        "Name the target column: `--target` on the command line, `target_col` in Python.",
    ),
    "data_not_numeric": K(
        400, "Column {column!r} holds text in row {row}: {value!r}.", "Encode it as numbers or leave it out."
    ),
    "data_one_class": K(400, "Column {target!r} holds one class only.", "A model needs rows of both classes to train."),
    "data_gap": K(
        400, "Column {column!r} has no usable number in row {row}: {value!r}.", "Fill the gap, or leave the row out."
    ),
    "data_ragged": K(
        400, "Row {row} has {got} values and the header has {expected}.", "Check the separator and the quotes."
    ),
    "data_classes": K(
        400,
        "Column {target!r} holds {got} classes and the model has {expected}.",
        "Write the classes as 0, 1, …, or name all of them with `labels`.",
    ),
    "data_slices": K(
        400,
        "The rows cannot be sliced by {name!r}: {reason}",
        "Name a column of few groups, or give a function that makes them.",
    ),
    "data_shape": K(
        400,
        "The model takes {expected} columns and the data has {got}.",
        "Give the model's columns in the model's order; ask its owner for them where its page does not name them.",
    ),
    "data_columns": K(
        400,
        "The data lack columns that the model takes by name: {missing}.",
        "Add these columns, or rename yours; the model's page lists all that it takes.",
    ),
    "data_column_twice": K(400, "The data have two columns called {column!r}.", "Rename one, or leave it out."),
    "data_labels": K(
        400,
        "Column {target!r} holds {unknown}; the model knows the classes {labels}.",
        "Write the classes as the model does, or name yours in the model's order (`--label`, `labels=`).",
    ),
    "architecture_missing": K(
        400, "The model has no described architecture.", "Train it with a function of your own: `train_from_remote`."
    ),
    "memory_short": K(
        400,
        "This machine has {free} MB of free memory, and the model with these rows needs about {needed} MB.",
        "Close other programs, or use a machine with more memory.",
    ),
    "clock_off": K(400, "This machine's clock is {seconds} s off the portal's.", "Let it set its clock by NTP."),
    "sdk_old": K(
        400, "This SDK is {own}; the portal brings {other}.", "Upgrade it from the portal's own list, `/sdk/`."
    ),
    "torch_missing": K(400, "This needs torch, which is not installed.", "Run `pip install torch`."),
    "package_missing": K(
        400, "{what} needs the package {package}, which is not installed.", "Run `pip install {package}`."
    ),
    "not_configured": K(400, "The {what} is not known.", "Pass it, set {variable}, or run `fedportal login`."),
    # Serving a model on the device
    "port_taken": K(
        409,
        "{host}:{port} cannot be listened at: {reason}.",
        "Name another port with --port (0: any that is free), or stop what listens there.",
    ),
    "serve_undescribed": K(
        400,
        "Nothing says what kind of model {path} is.",
        "Name it with --architecture, or put the JSON file that `fedportal pull` writes beside it.",
    ),
    "model_damaged": K(
        400, "The file {path} is not what was installed: its SHA-256 differs.", "Let the device fetch it once more."
    ),
    "not_served": K(
        404, "The model {model!r} is not served here.", "Ask for {served!r}, or serve the other one on another port."
    ),
    "only_local": K(
        403,
        "Only programs of this machine are answered, not {who}.",
        "Ask at 127.0.0.1 or localhost, from a program or a page of this machine.",
    ),
    "input_unusable": K(400, "The input is not usable: {reason}", "Send {wanted}."),
    "picture_unusable": K(
        400, "The picture is not usable: {reason}.", "Send a PNG of the model's size as a data URL, or nested lists."
    ),
    "rows_too_many": K(400, "The request holds {got} rows; at most {limit} are allowed.", "Send them in parts."),
    "prompt_too_long": K(
        400,
        "The prompt has more than {limit} tokens.",
        "Send less, or start `fedportal serve` with --max-prompt-tokens.",
    ),
    "output_too_long": K(
        400,
        "At most {limit} tokens are given in an answer, and {got} were asked for.",
        "Ask for fewer, or start `fedportal serve` with --max-output-tokens.",
    ),
    "option_unsupported": K(400, "`{option}` is not possible here: {reason}.", "Leave `{option}` out."),
    "no_embeddings": K(
        400,
        "The model {model} gives no embeddings: {reason}.",
        "Serve a multi-layer or convolutional model; its last hidden layer is the embedding.",
    ),
    "no_predictions": K(400, "The model {model} takes text, not rows or pictures.", "Ask it at /v1/chat/completions."),
    "serve_failed": K(
        500,
        "Something went wrong in `fedportal serve` ({reference}).",
        "What it printed under this reference says more; ask again.",
    ),
    "result_not_finite": K(
        500,
        "The model's answer holds NaN or infinity.",
        "Check the numbers, or go back to an earlier version.",
    ),
}
