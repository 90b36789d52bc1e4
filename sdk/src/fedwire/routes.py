"""The addresses both ends use, below the portal's base URL. No trailing slashes.

Owner's and member's addresses follow the common vocabulary of federated-learning clients; the device's are our own.
"""

API = "/api/v1"

WHOAMI = f"{API}/whoami"
# People and keys
ORG_MEMBERS = API + "/orgs/{org}/members"
ORG_MEMBER = ORG_MEMBERS + "/{person}"
ORG_POLICY = API + "/orgs/{org}/policy"
ORG_BUDGET = API + "/orgs/{org}/budget"
ORG_AUDIT = API + "/orgs/{org}/audit"
API_KEYS = f"{API}/api-keys"
API_KEY_REVOKE = API + "/api-keys/{key}/revoke"
WEBHOOKS = f"{API}/webhooks"
WEBHOOK = API + "/webhooks/{webhook}"  # + /test, /renew, /enable, /disable, /deliveries
# Federations
FEDERATIONS = f"{API}/federations"
FEDERATION = API + "/federations/{federation}"
FEDERATION_INVITE = FEDERATION + "/invite"
FEDERATION_JOIN = FEDERATION + "/join"
FEDERATION_DECLINE = FEDERATION + "/decline"
FEDERATION_LEAVE = FEDERATION + "/leave"
FEDERATION_MEMBERS = FEDERATION + "/members"
FEDERATION_MEMBER = FEDERATION_MEMBERS + "/{org}"  # + /suspend, /reinstate, /remove
FEDERATION_INVITATIONS = FEDERATION + "/invitations"
FEDERATION_AGREEMENTS = FEDERATION + "/agreements"
FEDERATION_ROOTS = FEDERATION + "/roots"  # + /accept
FEDERATION_AGREEMENT = FEDERATION_AGREEMENTS + "/{agreement}"  # + /accept
FEDERATION_MODELS = FEDERATION + "/models"
FEDERATION_MODEL = FEDERATION_MODELS + "/{model}"
INVITATION = API + "/invitations/{invitation}"  # + /resend, /revoke
# Models
MODELS = f"{API}/models"
MODEL = API + "/models/{model}"
MODEL_UPLOADS = MODEL + "/uploads"
MODEL_VERSIONS = MODEL + "/versions"
MODEL_LATEST = MODEL + "/versions/latest"
MODEL_VERSION = MODEL + "/versions/{version}"
MODEL_DOWNLOAD = MODEL + "/versions/{version}/download"
MODEL_FORMATS = MODEL_VERSION + "/formats"  # GET: which forms are made, on their way, or could be
MODEL_LINK = MODEL_VERSION + "/download-url"  # GET ?format=: a link for minutes, or 202 while the form is made
MODEL_FILE = MODEL_VERSION + "/file"  # GET ?link=: what the link is good for, without a key
MODEL_ROLLOUTS = MODEL + "/rollouts"
MODEL_ROLLOUTS_ACTIVE = MODEL_ROLLOUTS + "/active"
MODEL_ROLLBACK = MODEL + "/rollback"
ROLLOUTS = f"{API}/rollouts"
ROLLOUT = API + "/rollouts/{rollout}"  # + /advance, /set, /pause, /resume, /complete, /rollback
EXPERIMENTS = f"{API}/experiments"
EXPERIMENTS_OFFERED = f"{EXPERIMENTS}/offered"
EXPERIMENT = API + "/experiments/{experiment}"  # + /results, /join, /start, /stop, /promote
MODEL_GATE = MODEL + "/gate"  # GET, PUT: what versions must pass before they go to devices
VERSION_GATE = MODEL_VERSION + "/gate"  # GET: the report; POST: judge; + /override, /override/withdraw
UPLOADS = f"{API}/uploads"
UPLOAD = API + "/uploads/{upload}"
# Training
SESSIONS = f"{API}/training/sessions"
SESSION_PREVIEW = f"{SESSIONS}/preview"  # POST: what starting the same would do
SESSION = API + "/training/sessions/{run}"  # + /pause, /resume, /schedule, /stop, /keep
SESSION_ROUNDS = SESSION + "/rounds"
SESSION_EVENTS = SESSION + "/events"
SESSION_LEAKAGE = SESSION + "/leakage"  # GET: audits there are; POST: report one
SESSION_HELD = SESSION + "/held"  # GET: what the portal holds of one's own devices
SESSION_HELD_FILE = SESSION_HELD + "/{digest}"  # GET: one of these files
FEDERATION_INFERENCES = API + "/federations/{federation}/inference"  # GET: plans; POST: a new one
FEDERATION_CONSENT = FEDERATION_INFERENCES + "/consent"  # GET, PUT, DELETE: one's own organization's
INFERENCE = API + "/inference/{plan}"  # + /start, /cancel
TRAINING_STATUS = API + "/training/{model}/status"
TRAINING_STOP = API + "/training/{model}/stop"
STRATEGIES = f"{API}/training/strategies"
# The same runs in the vocabulary of other clients
FEDERATED_SESSIONS = f"{API}/federated/sessions"
FEDERATED_SESSION = FEDERATED_SESSIONS + "/{run}"
# Devices, as their organization sees them
DEVICES = f"{API}/devices"
DEVICE_REGISTER = f"{API}/devices/register"
DEVICE = API + "/devices/{device}"  # + /revoke, /retire, /reset, /renew, /quarantine, /restore, /groups, …
DEVICE_HEARTBEAT = DEVICE + "/heartbeat"
DEVICE_HEALTH = DEVICE + "/health"  # POST: how the versions fare that the device holds
# The device's own doors, in front of Django
TASKS = f"{API}/device/tasks"
TASK_NEXT = f"{TASKS}/next"  # GET ?wait=25 → 200 task | 204
TASK = TASKS + "/{task}"
TASK_MODEL = TASK + "/model"  # GET: safetensors of the round's global model
TASK_STATE = TASK + "/state"  # GET: the vector that belongs to the model, where the strategy sends one
TASK_UPDATE = TASK + "/update"  # PUT with Upload-Offset, HEAD answers Upload-Offset
TASK_ANSWER = TASK + "/answer"  # POST JSON
TASK_DECLINE = TASK + "/decline"  # POST JSON {"reason": …}
DEVICE_ROTATE = f"{API}/device/rotate"  # POST: a fresh device key
DEVICE_RUN = API + "/device/runs/{run}"  # GET: how a run stands that this device worked for
# Delivery of the SDK itself
SDK_INDEX = "/sdk/"

# Words that no federation and no model may be called, because they stand in addresses.
RESERVED_NAMES = frozenset(
    (
        *("rounds", "sessions", "strategies", "catalog", "latest", "versions", "models", "federations", "members"),
        *(
            "register",
            "invite",
            "join",
            "leave",
            "decline",
            "new",
            "device",
            "devices",
            "tasks",
            "uploads",
            "next",
            "api",
        ),
        *("admin", "static", "sdk"),
    )
)
ID_PREFIXES = (
    *("org_", "fed_", "mdl_", "ver_", "dev_", "run_", "inv_", "tsk_", "upl_", "usr_", "edg_", "key_"),
    *("agr_", "whk_", "dlv_", "rol_", "inf_"),
)
