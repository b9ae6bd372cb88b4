from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromPartner(_message.Message):
    __slots__ = ("hello", "joined", "declined", "step_failed", "head_seen", "ready", "secagg")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    DECLINED_FIELD_NUMBER: _ClassVar[int]
    STEP_FAILED_FIELD_NUMBER: _ClassVar[int]
    HEAD_SEEN_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    SECAGG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    joined: Joined
    declined: Declined
    step_failed: StepFailed
    head_seen: HeadSeen
    ready: Ready
    secagg: SecAgg
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., joined: _Optional[_Union[Joined, _Mapping]] = ..., declined: _Optional[_Union[Declined, _Mapping]] = ..., step_failed: _Optional[_Union[StepFailed, _Mapping]] = ..., head_seen: _Optional[_Union[HeadSeen, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., secagg: _Optional[_Union[SecAgg, _Mapping]] = ...) -> None: ...

class ToPartner(_message.Message):
    __slots__ = ("welcome", "trust", "invite", "open_step", "close_step", "history", "receipt", "end_run", "standing", "secagg", "study_ended")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    OPEN_STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_STEP_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    END_RUN_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    SECAGG_FIELD_NUMBER: _ClassVar[int]
    STUDY_ENDED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    trust: TrustUpdate
    invite: Invite
    open_step: OpenStep
    close_step: CloseStep
    history: History
    receipt: Receipt
    end_run: EndRun
    standing: Standing
    secagg: SecAgg
    study_ended: StudyEnded
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., trust: _Optional[_Union[TrustUpdate, _Mapping]] = ..., invite: _Optional[_Union[Invite, _Mapping]] = ..., open_step: _Optional[_Union[OpenStep, _Mapping]] = ..., close_step: _Optional[_Union[CloseStep, _Mapping]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., end_run: _Optional[_Union[EndRun, _Mapping]] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ..., secagg: _Optional[_Union[SecAgg, _Mapping]] = ..., study_ended: _Optional[_Union[StudyEnded, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "software", "nonce", "roster_epoch", "roster_digest", "runs", "studies")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROSTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    STUDIES_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    software: str
    nonce: bytes
    roster_epoch: int
    roster_digest: str
    runs: _containers.RepeatedCompositeFieldContainer[RunMark]
    studies: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., software: _Optional[str] = ..., nonce: _Optional[bytes] = ..., roster_epoch: _Optional[int] = ..., roster_digest: _Optional[str] = ..., runs: _Optional[_Iterable[_Union[RunMark, _Mapping]]] = ..., studies: _Optional[_Iterable[str]] = ...) -> None: ...

class RunMark(_message.Message):
    __slots__ = ("run_id", "entries", "head", "signature")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    entries: int
    head: str
    signature: bytes
    def __init__(self, run_id: _Optional[str] = ..., entries: _Optional[int] = ..., head: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "server", "proof", "time_ms", "ledgers")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LEDGERS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    server: str
    proof: bytes
    time_ms: int
    ledgers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, protocol: _Optional[int] = ..., server: _Optional[str] = ..., proof: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., ledgers: _Optional[_Iterable[bytes]] = ...) -> None: ...

class TrustUpdate(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    def __init__(self, bundle: _Optional[bytes] = ...) -> None: ...

class Invite(_message.Message):
    __slots__ = ("run_id", "plan", "roster_digest")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ROSTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    plan: bytes
    roster_digest: str
    def __init__(self, run_id: _Optional[str] = ..., plan: _Optional[bytes] = ..., roster_digest: _Optional[str] = ...) -> None: ...

class Joined(_message.Message):
    __slots__ = ("run_id", "plan_digest", "participant", "device", "confinement")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CONFINEMENT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    plan_digest: str
    participant: str
    device: str
    confinement: str
    def __init__(self, run_id: _Optional[str] = ..., plan_digest: _Optional[str] = ..., participant: _Optional[str] = ..., device: _Optional[str] = ..., confinement: _Optional[str] = ...) -> None: ...

class Declined(_message.Message):
    __slots__ = ("run_id", "fault", "mark")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    fault: Fault
    mark: RunMark
    def __init__(self, run_id: _Optional[str] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., mark: _Optional[_Union[RunMark, _Mapping]] = ...) -> None: ...

class OpenStep(_message.Message):
    __slots__ = ("run_id", "step", "attempt", "deadline_ms", "heads")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: bytes
    attempt: int
    deadline_ms: int
    heads: _containers.RepeatedCompositeFieldContainer[HeadSeen]
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[bytes] = ..., attempt: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., heads: _Optional[_Iterable[_Union[HeadSeen, _Mapping]]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("run_id", "step", "figures", "ledger")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: int
    figures: bytes
    ledger: bytes
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[int] = ..., figures: _Optional[bytes] = ..., ledger: _Optional[bytes] = ...) -> None: ...

class SecAgg(_message.Message):
    __slots__ = ("run_id", "step", "attempt", "kind", "data")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: int
    attempt: int
    kind: str
    data: bytes
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[int] = ..., attempt: _Optional[int] = ..., kind: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class CloseStep(_message.Message):
    __slots__ = ("run_id", "step", "fault")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: int
    fault: Fault
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[int] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ...) -> None: ...

class StepFailed(_message.Message):
    __slots__ = ("run_id", "step", "attempt", "fault")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: int
    attempt: int
    fault: Fault
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[int] = ..., attempt: _Optional[int] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ...) -> None: ...

class HeadSeen(_message.Message):
    __slots__ = ("run_id", "partner", "entries", "head", "signature")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    partner: str
    entries: int
    head: str
    signature: bytes
    def __init__(self, run_id: _Optional[str] = ..., partner: _Optional[str] = ..., entries: _Optional[int] = ..., head: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("run_id", "first", "entries", "signature")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    first: int
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    signature: bytes
    def __init__(self, run_id: _Optional[str] = ..., first: _Optional[int] = ..., entries: _Optional[_Iterable[bytes]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class EndRun(_message.Message):
    __slots__ = ("run_id", "state", "fault", "model")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    state: str
    fault: Fault
    model: str
    def __init__(self, run_id: _Optional[str] = ..., state: _Optional[str] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("run_id", "fault")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    fault: Fault
    def __init__(self, run_id: _Optional[str] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ...) -> None: ...

class StudyEnded(_message.Message):
    __slots__ = ("study",)
    STUDY_FIELD_NUMBER: _ClassVar[int]
    study: str
    def __init__(self, study: _Optional[str] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("kind", "code", "what", "value", "limit", "cure")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    code: str
    what: str
    value: str
    limit: str
    cure: str
    def __init__(self, kind: _Optional[str] = ..., code: _Optional[str] = ..., what: _Optional[str] = ..., value: _Optional[str] = ..., limit: _Optional[str] = ..., cure: _Optional[str] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class SubmitRunRequest(_message.Message):
    __slots__ = ("plan", "key")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    key: str
    def __init__(self, plan: _Optional[bytes] = ..., key: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("state", "limit", "run_id")
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    state: str
    limit: int
    run_id: str
    def __init__(self, state: _Optional[str] = ..., limit: _Optional[int] = ..., run_id: _Optional[str] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("run_id", "first_step", "most_steps")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    MOST_STEPS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    first_step: int
    most_steps: int
    def __init__(self, run_id: _Optional[str] = ..., first_step: _Optional[int] = ..., most_steps: _Optional[int] = ...) -> None: ...

class ModelRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class ChangeRunRequest(_message.Message):
    __slots__ = ("run_id", "change", "partner", "most_steps")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    MOST_STEPS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    change: str
    partner: str
    most_steps: int
    def __init__(self, run_id: _Optional[str] = ..., change: _Optional[str] = ..., partner: _Optional[str] = ..., most_steps: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InstallTrustRequest(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    def __init__(self, bundle: _Optional[bytes] = ...) -> None: ...

class SubmitOfflineRequest(_message.Message):
    __slots__ = ("plan", "key", "data_set", "schedule")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATA_SET_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    key: str
    data_set: str
    schedule: str
    def __init__(self, plan: _Optional[bytes] = ..., key: _Optional[str] = ..., data_set: _Optional[str] = ..., schedule: _Optional[str] = ...) -> None: ...

class ReportRunRequest(_message.Message):
    __slots__ = ("plan", "key", "origin")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    key: str
    origin: bytes
    def __init__(self, plan: _Optional[bytes] = ..., key: _Optional[str] = ..., origin: _Optional[bytes] = ...) -> None: ...

class ReportStepRequest(_message.Message):
    __slots__ = ("run_id", "step")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: bytes
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[bytes] = ...) -> None: ...

class ReportEndRequest(_message.Message):
    __slots__ = ("run_id", "state", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    state: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EndStudyRequest(_message.Message):
    __slots__ = ("study",)
    STUDY_FIELD_NUMBER: _ClassVar[int]
    study: str
    def __init__(self, study: _Optional[str] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    def __init__(self, request: _Optional[bytes] = ...) -> None: ...

class EnrolReply(_message.Message):
    __slots__ = ("pending", "bundle")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    pending: Pending
    bundle: bytes
    def __init__(self, pending: _Optional[_Union[Pending, _Mapping]] = ..., bundle: _Optional[bytes] = ...) -> None: ...

class Pending(_message.Message):
    __slots__ = ("fingerprint",)
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    def __init__(self, fingerprint: _Optional[str] = ...) -> None: ...
