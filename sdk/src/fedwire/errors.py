"""The catalogue of errors: code → HTTP status → sentence → what to do next.

Server, SDK and command line speak from this one table; the rows that only devices raise stand in `device_errors`.
`FedportalError("task_closed", task="tsk_…")` carries the code and the values its sentence needs; `body()` is what
travels, `from_body()` is what the SDK makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from fedwire.device_errors import ON_DEVICES
from fedwire.error_kinds import ErrorKind
from fedwire.sentences import NAMES_HOLD, Unknown, fill

K = ErrorKind
CATALOGUE: Mapping[str, ErrorKind] = {
    # Who are you?
    "not_authenticated": K(
        401, "No valid credentials came with this request.", "Send `Authorization: Bearer <key>` or sign in."
    ),
    "key_invalid": K(
        401, "This key is not known, or it was mistyped.", "Check the key, or ask an admin for a new one."
    ),
    "key_revoked": K(401, "This key was revoked.", "Ask an admin of your organization for a new key."),
    "key_expired": K(401, "This key expired on {expired_at}.", "Ask an admin of your organization for a new key."),
    "two_credentials": K(400, "A key and a browser session came with the same request.", "Send one of them, not both."),
    "sign_in_failed": K(401, "Email and password do not match.", "Try again, or reset the password."),
    "too_many_tries": K(429, "Too many tries.", "Wait {wait} and try again."),
    "code_wrong": K(400, "This code is not right.", "Type the newest code; each can be used once."),
    "proof_expired": K(410, "This code can no longer be used.", "Start again, and a new letter comes."),
    "address_unproven": K(
        403,
        "This address is not proven yet.",
        "Choose a new password through `Forgot the password?`: the letter proves the address.",
    ),
    "sso_refused": K(403, "Single sign-on did not work: {reason}", "Sign in with your password, or ask your operator."),
    "too_many_letters": K(
        429,
        "The portal sends no more letters for this sender or to this address today.",
        "Wait {hours} h and try again, or give the link to the person yourself.",
    ),
    # May you?
    "forbidden": K(403, "You may not {action} here.", "{who}"),
    "not_found": K(404, "There is no such {what}.", "Check the id or name, or ask whoever shared it with you."),
    "ambiguous_name": K(409, "The name {name!r} means several things: {choices}.", "Use one of these ids instead."),
    "reserved_name": K(400, "The name {name!r} is reserved.", "Choose another name."),
    "invalid_name": K(
        400,
        "{name!r} is not a usable name.",
        "Use 1 to 100 {usable}, starting with a letter or digit.",
    ),
    "name_taken": K(409, "Another {what} is called {name!r} already.", "Choose another name."),
    "method_not_allowed": K(405, "This address does not answer {method}.", "See the API description at /api/docs."),
    "bad_request": K(400, "{reason}", "Correct the request and send it again."),
    "field_invalid": K(400, "The field {field!r} is not usable: {reason}", "Correct this field and send it again."),
    "organization_mismatch": K(
        403,
        "The key belongs to another organization than {org_id}.",
        "Leave `org_id` out, or use that organization's key.",
    ),
    "organization_suspended": K(403, "This organization is suspended.", "Ask the operator of the portal."),
    "scope_missing": K(403, "This key has no scope {scope!r}.", "Make a key with that scope, or ask an admin for one."),
    "last_owner": K(
        409,
        "An organization needs at least one owner.",
        "Transfer the ownership to a colleague first (Organization → People), or make a second owner.",
    ),
    "role_too_high": K(403, "You cannot give a role higher than your own.", "Ask an owner to do it."),
    # States
    "wrong_state": K(409, "{what} is {state}; this is not possible now.", "{hint}"),
    "conflict": K(409, "Someone else changed this at the same moment.", "Look again and repeat if still wanted."),
    # Invitations
    "invitation_invalid": K(404, "This invitation link is not valid.", "Ask whoever invited you to send it again."),
    "invitation_expired": K(410, "This invitation expired.", "Ask {who} to send it again."),
    "invitation_used": K(
        409, "This invitation was already used.", "If you used it, sign in: you are in already. Otherwise ask {who}."
    ),
    "invitation_revoked": K(410, "This invitation was withdrawn.", "Ask {who} for a new one."),
    "invitation_wrong_address": K(
        403, "This invitation is for another email address.", "Sign in as the invited person, or ask for a new letter."
    ),
    "already_member": K(409, "{name} is already a member or invited.", "Nothing is left to do."),
    "not_invited": K(403, "Your organization has no open invitation to this federation.", "Ask its owner for one."),
    "no_agreement": K(
        404,
        "The federation {federation} has no study agreement.",
        "Its owner publishes one: `fedportal federation agreement publish {federation} --title TITLE --file FILE`.",
    ),
    "agreement_outdated": K(
        409,
        "Version {version} of the study agreement is not the current one.",
        "Read version {current} and accept that one.",
    ),
    "agreement_expired": K(
        409, "The study agreement expired on {day}.", "Ask {owner} to publish a new version, then accept that one."
    ),
    # Webhooks
    "webhook_address": K(400, "The portal does not call {url}: {reason}", "Name a public address of your own server."),
    "webhook_limit": K(409, "An organization has at most {limit} webhooks.", "Remove one that is no longer needed."),
    "webhook_invalid": K(400, "This is no news from the portal: {reason}", "Do not act on it; check the secret."),
    # Devices
    "device_taken": K(
        409,
        "The identifier {identifier!r} is registered with another device key pair.",
        "Ask an admin to reset it, or use another identifier.",
    ),
    "device_inactive": K(403, "This device is {state}.", "Ask an admin of your organization."),
    "signature_invalid": K(
        400, "The signature does not match what was signed.", "Sign with the device's own Ed25519 key."
    ),
    "nonce_used": K(409, "This registration was already used.", "Sign a fresh nonce and register again."),
    "enrolment_full": K(
        403, "This enrolment key has registered all {limit} devices it may.", "Ask an admin for a new key."
    ),
    "edge_unknown": K(
        404,
        "There is no edge called {identifier!r} on this machine.",
        "Name it with --identifier, or set it up: `fedportal edge key`, then `fedportal edge run`.",
    ),
    "edge_runs": K(
        409, "The edge {identifier!r} runs already on this machine.", "Stop the other process, or name another edge."
    ),
    # Secure aggregation
    "masking_refused": K(
        403,
        "This session of secure aggregation is refused: {reason}",
        "Nothing of the update was sent in the clear. Ask whoever started the run; the next session begins anew.",
    ),
    # Tasks and uploads
    "task_closed": K(409, "This task is {state}; its round went on without it.", "Wait for the next task."),
    "answer_differs": K(409, "This task was already answered with other content.", "Nothing: the first answer counts."),
    "offset_mismatch": K(409, "The upload continues at byte {stored}, not at {offset}.", "Continue at byte {stored}."),
    "length_missing": K(411, "The request does not say its length.", "Send Content-Length."),
    "length_wrong": K(
        400,
        "The body must be {expected} bytes in all and was announced as {announced}.",
        "Send exactly the model's tensors.",
    ),
    "body_short": K(
        400,
        "The body came too slowly or ended early: {unread} bytes are missing.",
        "Ask with HEAD how much is stored, and continue there.",
    ),
    "body_late": K(408, "The body did not come in time.", "Send it again, faster."),
    "body_too_large": K(
        413, "The body is larger than {limit} bytes.", "Send less, or use the upload address for files."
    ),
    "digest_mismatch": K(400, "The content's SHA-256 is not the announced one.", "Send it again from the start."),
    "upload_incomplete": K(409, "Only {stored} of {expected} bytes have arrived.", "Finish the upload, then answer."),
    "storage_full": K(507, "The portal is short of disk space.", "Try again later; nothing is lost."),
    # Tensors
    "not_safetensors": K(
        400, "The content is not a safetensors file: {reason}", "Send tensors as safetensors; nothing else is read."
    ),
    "tensor_names": K(400, "The tensors' names are not the model's: {reason}", "Send exactly the model's tensors."),
    "tensor_shape": K(
        400, "The tensor {name!r} has shape {got}, the model says {expected}.", "Send exactly the model's tensors."
    ),
    "tensor_dtype": K(
        400, "The tensor {name!r} has type {got}, the model says {expected}.", "Send exactly the model's tensors."
    ),
    "tensor_order": K(400, "The tensors are not in the model's order.", "Write them in the order of the manifest."),
    "codec_unusable": K(
        400,
        "The encoded update, or what is said of its codec, is not usable: {reason}",
        "Encode it as the task says; docs/protocol.md describes every codec.",
    ),
    "codec_overflow": K(
        400,
        "The update holds numbers that the codec {codec} cannot write: at most {most}.",
        "Check the learning rate and the data, or choose another codec.",
    ),
    "codec_too_large": K(
        400,
        "With the codec {codec} an update takes {needed} bytes; at most {most} are allowed.",
        "{fits}",
    ),
    "not_finite": K(400, "The tensors hold NaN or infinity.", "Check the learning rate and the data; train again."),
    "samples_invalid": K(
        400, "The sample count {samples} is not between 1 and {limit}.", "Send the number of rows trained on."
    ),
    "records_too_few": K(
        400,
        "The policy of the device's organization asks for at least {least} rows; this answer stands for fewer.",
        "Give the device more rows, or ask a privacy officer of the organization to lower the policy's floor.",
    ),
    "metrics_invalid": K(
        400, "The metrics are not usable: {reason}", "Send sums, counts and histograms as described in the protocol."
    ),
    "inference_invalid": K(
        400,
        "The summary is not usable: {reason}",
        "Send the cells that the plan asks for; docs/inference.md describes them.",
    ),
    "inference_too_few": K(
        409,
        "Too few may be asked: {reason}",
        "Ask members for their consent (`fedportal infer consent`), or plan it for fewer devices or organizations.",
    ),
    "audit_unavailable": K(
        400, "There is no leakage audit of this: {reason}.", "docs/privacy.md says what it attacks."
    ),
    "architecture_invalid": K(
        400, "The architecture is not usable: {reason}", "See docs/protocol.md for the described architectures."
    ),
    # Models and runs
    "version_invalid": K(400, "{version!r} is not a semantic version.", "Use three numbers, for example 1.0.0."),
    "version_taken": K(409, "The version {version} exists already.", "Push the next version."),
    "format_unavailable": K(409, "There is no {format} form of this version.", "Use one of: {available}."),
    "format_pending": K(202, "The {format} form is being made.", "Ask again in a moment."),
    "format_needs_architecture": K(
        409,
        "There is no {format} form of this version: the portal does not know what its tensors compute.",
        "Push the file with its described --architecture, or use one of: {available}.",
    ),
    "format_failed": K(
        409, "The {format} form could not be made: {reason}", "Ask again in a minute, or use one of: {available}."
    ),
    "download_damaged": K(
        400, "What arrived is not the file that the portal announced.", "Pull it again; the digest is {expected}."
    ),
    "link_invalid": K(403, "This download link was not made by the portal for this file.", "Ask for a fresh link."),
    "link_expired": K(403, "This download link is no longer good.", "Ask for a fresh link."),
    "strategy_unknown": K(400, "There is no strategy {strategy!r}.", "Use one of: {available}."),
    "strategy_parameter": K(
        400, "The strategy's parameter {name!r} is not usable: {reason}", "Correct it and start again."
    ),
    "not_available": K(
        400,
        "{what} is not available on this portal yet.",
        "Leave `{field}` out; without it the run does not promise it.",
    ),
    "strategy_schedule": K(
        400,
        "{strategy} does not work with {schedule} rounds{why}.",
        "It works with {usable} rounds; or choose another strategy.",
    ),
    "updates_too_few": K(
        409,
        "{strategy} with these settings needs at least {least} updates in a round, and there are {have}.",
        "Ask for at least {least} devices a round, or guard against fewer faulty ones.",
    ),
    "trusted_missing": K(
        409,
        "There is no trusted update to compare the others with: {reason}",
        "See that a device of the trusted organization takes part, or choose another strategy.",
    ),
    "not_shared": K(
        409,
        "The model {model} is not shared with a federation you may train in.",
        "Share it with `fedportal federation share`.",
    ),
    "no_personal_model": K(
        404,
        "This device has no model of its own of {model}.",
        "Take part in a run with fedbn, fedper, fedrep, ditto or finetune on this machine first.",
    ),
    "not_installed": K(
        404,
        "This device's organization gave it no version of {model}, or none has arrived yet.",
        "Begin a rollout for its devices, and let this one take part: `fedportal device run`.",
    ),
    "no_experiment": K(
        404,
        "There is no experiment with {model} on your devices.",
        "Plan one: `fedportal experiment create {model} --treatment VERSION`.",
    ),
    "no_winner": K(
        409,
        "The experiment {name} has not found one version to be better.",
        "Wait for more reports, or say which one: `fedportal experiment promote {id} --arm treatment`.",
    ),
    # Gates
    "gate_failed": K(
        409,
        "{model} {version} may not go to devices, for it did not pass its gate ({reason}).",
        "See why: `fedportal gate show {model} --version {version}`, or GET {report}. An owner of {owner} may "
        "let this one version through with a reason.",
    ),
    "gate_unjudged": K(
        409,
        "{model} {version} may not go to devices yet: {reason}.",
        "The portal judges it by itself in a moment; `fedportal gate check {model} --version {version}` asks at once.",
    ),
    "no_gate": K(
        409,
        "The model {model} has no gate: nothing is asked of its versions before they go to devices.",
        "Set limits first: `fedportal gate set {model} …`.",
    ),
    "no_run": K(404, "The model {model!r} was never trained.", "Start a run: `fedportal train start {model}`."),
    "no_rollout": K(
        404,
        "No version of {model!r} was ever sent to your organization's devices.",
        "Send one: `fedportal deploy {model} --rollout 10%`.",
    ),
    **ON_DEVICES,
    # Transport and the unexpected
    "tls_failed": K(
        400,
        "The certificate of {url} cannot be trusted: {reason}",
        "Name the portal's CA file with ca_file or FEDPORTAL_CA_FILE.",
    ),
    "unreachable": K(
        503,
        "The portal at {url} cannot be reached: {reason}",
        "Check the address and the network; is the portal running?",
    ),
    "unexpected_answer": K(
        400,
        "{url} answered with status {answered}, not the way a portal does.",
        "Check that the address is the portal's.",
    ),
    "unavailable": K(503, "The portal is not ready.", "Try again in a moment."),
    "internal": K(500, "Something went wrong on the portal's side ({reference}).", "Tell the operator this reference."),
}
del K


class FedportalError(Exception):
    """An error of the catalogue.

    `code` is a key of `CATALOGUE`; the keyword arguments fill its sentence and travel as `context`. A traceback of it
    ends with what to do next, as a note.
    """

    def __init__(self, code: str, **context: Any) -> None:
        self.code = code
        self.kind = CATALOGUE.get(code, CATALOGUE["internal"])
        self.context = context
        super().__init__(self.message)
        self._note()

    def _note(self) -> None:
        self.__notes__ = [f"Next: {self.next_step}"] if self.next_step else []

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    @property
    def message(self) -> str:
        """The sentence with its values, ended as sentences are: reasons from elsewhere come without their full stop."""
        text = fill(self.kind.sentence, self.context)
        return text if text.endswith((".", "?", "!")) else f"{text}."

    @property
    def next_step(self) -> str:
        """What the reader should do now."""
        return fill(self.kind.next_step, self.context)

    def body(self) -> dict[str, Any]:
        """The JSON that travels: error, message, detail, next_step, status_code, context."""
        return {
            "error": self.code,
            "message": self.message,
            "detail": self.message,
            "next_step": self.next_step,
            "status_code": self.status,
            "context": {name: _plain(value) for name, value in self.context.items()},
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any], status: int = 500) -> FedportalError:
        """The error a server's JSON `body` speaks of; unknown codes keep their message and status."""
        context = body.get("context")
        error = cls(str(body.get("error", "internal")), **(context if isinstance(context, dict) else {}))
        if error.code not in CATALOGUE:
            message = str(body.get("message") or body.get("detail") or "The portal refused the request.")
            error.kind = ErrorKind(
                status, message.replace("{", "{{").replace("}", "}}"), str(body.get("next_step", ""))
            )
            error.args = (error.message,)
            error._note()
        return error


def outline(code: str) -> str:
    """What an error of the catalogue says where its values are not known: an ellipsis for each, and what to do."""
    kind, values = CATALOGUE[code], Unknown({"usable": NAMES_HOLD, "wait": "a moment"})
    sentence, next_step = (Formatter().vformat(text, (), values) for text in (kind.sentence, kind.next_step))
    return f"{sentence if sentence.endswith(('.', '?', '!', '…')) else f'{sentence}.'} {next_step}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)
