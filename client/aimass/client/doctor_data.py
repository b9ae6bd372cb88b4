"""The doctor on what is a partner's own: policy, tasks, data, confinement, journal, devices.

Of rows it tells how many there are and how many do not fit, never what stands in one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

from aimass.client.journal import read_journal
from aimass.client.partner import policy_in
from aimass.client.policy import AdmittedTask, DataBudget, Policy
from aimass.client.secure_records import read_records
from aimass.client.shards import check_schema, read_rows, resolve
from aimass.privacy.dp.events import UNCOUNTED_DELTA
from aimass.privacy.dp.ledger_reading import read_doubts, rolled_back
from aimass.proto.apps import installed
from aimass.proto.checks import Finding, fault, good, of_error, warning
from aimass.proto.confinement import cuda_inside, enforceable
from aimass.proto.errors import AimassError, NotFound
from aimass.proto.flower.installed import check_installed
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import Schema, ShardManifest, read_shard_manifest
from aimass.proto.task import TaskSource, load, locate

__all__ = ["DataChecks"]


class DataChecks:
    """Nothing of this is looked for in a person's folder."""

    def __init__(self, folder: Path, wanted: Callable[[], bool], child: Callable[[], ChildLimits]) -> None:
        self._folder, self._wanted, self._child = folder, wanted, child
        self._policy: Policy | None = None
        self._installed: dict[str, TaskSource] = {}

    def policy(self) -> Iterator[Finding]:
        """Whether it can be read, and what it lets through."""
        if not self._wanted():
            return
        policy = self._policy = policy_in(self._folder)
        file = f"{self._folder}/policy.toml"
        if not policy.plain_sums and not policy.secure_aggregation:
            what = "it allows no plain sums: only plans with secure aggregation run here"
            fix = (
                f"In {file}: plain_sums = true if the server may see contributions, secure_aggregation = true if never."
            )
            yield warning("policy", "policy.plain_sums", what, fix)
        if not policy.schemas:
            what = "it maps no schema to data here: every plan is declined"
            yield fault(
                "policy", "policy.no_schemas", what, f"aimass client data add NAME --dir {self._folder} --schema ..."
            )
        if not policy.tasks:
            what = "it admits no task yet: each plan waits for a person here"
            yield warning("policy", "policy.no_tasks", what, f"aimass client approve TASK --dir {self._folder}")
        bounds = policy.bounds
        yield good(
            "policy",
            f"schemas {', '.join(sorted(policy.schemas)) or 'none'}; tasks {_names(policy)}; "
            f"up to {bounds.rounds} rounds, {bounds.epochs} epochs, learning rate {bounds.learning_rate:g}; "
            f"cohorts from {policy.smallest_cohort}; {_sums(policy)}; "
            f"leave as sums: {', '.join(policy.release.metrics) or 'no metrics'}",
        )
        mapped = set(policy.schemas.values())
        for name in sorted({budget.data_set for budget in policy.budgets} - mapped):
            what = f"it states a budget for {name}, which no schema is mapped to: that budget guards no rows"
            names = ", ".join(sorted(mapped)) or "none is yet"
            fix = f"In {file}, under [[budgets]]: name one that is mapped ({names})."
            yield warning("policy", "policy.budget_of_none", what, fix)

    def tasks(self) -> Iterator[Finding]:
        """Whether what is admitted is what is installed."""
        for kind, name in sorted({(code.kind, code.name) for code in self._admitted}):
            admitted = [code for code in self._admitted if (code.kind, code.name) == (kind, name)]
            yield self._task(name, admitted) if kind == "task" else self._app(name, admitted)

    @property
    def _admitted(self) -> tuple[AdmittedTask, ...]:
        return self._policy.tasks if self._policy else ()

    def _task(self, name: str, admitted: list[AdmittedTask]) -> Finding:
        try:
            source = locate(name)
        except NotFound as error:
            return of_error("task", error, f"Install the package of {name} here: task code never travels with a plan.")
        if source.digest not in {task.digest for task in admitted}:
            what = f"{name} is installed as {source.digest[:16]}, and the policy admits {admitted[-1].digest[:16]}"
            approve = f"aimass client approve {name} --dir {self._folder}"
            fix = f"Install the version that was admitted, or read this one and: {approve}"
            return fault("task", "task.digest", what, fix)
        self._installed[name] = source
        return good("task", f"{name} {source.digest[:16]} is admitted and installed")

    def _app(self, name: str, admitted: list[AdmittedTask]) -> Finding:
        digests = {app.digest for app in installed(self._folder) if app.name == name}
        if not digests & {app.digest for app in admitted}:
            what = f"no version of the app {name} that the policy admits is installed"
            fix = f"aimass client app install FOLDER --dir {self._folder}; read it, and approve it if it is another."
            return fault("task", "app.absent", what, fix)
        try:
            check_installed()
        except AimassError as error:
            return of_error("task", error)
        return good("task", f"the app {name} is admitted and installed")

    def data(self) -> Iterator[Finding]:
        """Every data set that plans may ask for: its files, its rows against the schema of a task that is admitted."""
        if self._policy is None:
            return
        schemas = self._schemas()
        for schema_name, data_set in sorted(self._policy.schemas.items()):
            try:
                yield self._data_set(data_set, schema_name, schemas.get(schema_name))
            except AimassError as error:
                yield of_error(
                    "data", error, f"{data_set}: {error.cure or 'correct'} See {self._folder}/data/{data_set}.toml."
                )

    def _schemas(self) -> dict[str, Schema]:
        """By name, of tasks that are admitted as they are installed: no other code is loaded here."""
        found = {}
        for source in self._installed.values():
            with contextlib.suppress(AimassError):
                schema = load(source).schema
                found[schema.name] = schema
        return found

    def _data_set(self, name: str, schema_name: str, schema: Schema | None) -> Finding:
        path = self._folder / "data" / f"{name}.toml"
        if not path.is_file():
            fix = f"aimass client data add {name} --dir {self._folder} --schema {schema_name} --uri FILE --format csv"
            return fault("data", "data.absent", f"{schema_name} is mapped to {name}, which was never added", fix)
        manifest = read_shard_manifest(path.read_text("utf-8"), str(path))
        files = resolve(manifest, path.parent)
        if manifest.format == "files":
            largest = max((each.delta for each in self._budgets(name) if each.unit != "partner"), default=0.0)
            if largest > UNCOUNTED_DELTA:
                what = f"nobody here counts what {name} holds, and its budget has a delta of {largest:g}"
                fix = f"In {self._folder}/policy.toml, under [[budgets]]: {UNCOUNTED_DELTA:g}, or well below 1/rows."
                return fault("data", "dp.delta", what, fix)
            return good("data", f"{name}: {len(files)} files or folders that an app of {schema_name} may read")
        if schema is None:
            size = sum(file.stat().st_size for file in files)
            what = (
                f"{name}: {len(files)} files, {size / 1e6:.1f} MB; its rows are checked once a task for it is admitted"
            )
            return good("data", what)
        check_schema(manifest, schema)
        return self._rows(name, manifest, schema, files)

    def _budgets(self, name: str) -> list[DataBudget]:
        return [each for each in (self._policy.budgets if self._policy else ()) if each.data_set == name]

    def _rows(self, name: str, manifest: ShardManifest, schema: Schema, files: tuple[Path, ...]) -> Finding:
        from aimass.proto.rows import check  # noqa: PLC0415  (numpy is loaded where rows are read)

        with contextlib.ExitStack() as opened:
            table = read_rows(schema, manifest, [opened.enter_context(file.open("rb")) for file in files])
        report = check(table)
        if report.findings:
            columns = ", ".join(sorted({finding.column for finding in report.findings}))
            what = f"{name}: {len(report.findings)} cells of {report.rows} rows do not fit {schema.name}, in {columns}"
            fix = f"aimass client data check {name} --dir {self._folder} --task TASK shows each; correct the rows."
            return fault("data", "data.rows", what, fix)
        if not report.rows:
            return fault(
                "data", "rows.empty", f"{name} has no rows", f"Correct uris in {self._folder}/data/{name}.toml."
            )
        budgets = self._budgets(name)
        counts = {"example": report.rows, "person": len(report.rows_by_person)}
        for budget in budgets:
            units = counts.get(budget.unit, 0)
            if units and budget.delta > 1 / units:
                what = f"the delta of the budget of {name} for each {budget.unit}, {budget.delta:g}, is above 1/{units}"
                fix = f"In {self._folder}/policy.toml, under [[budgets]]: a tenth of that is usual, {0.1 / units:.1g}."
                return fault("data", "dp.delta", what, fix)
        if manifest.person is None and any(each.unit == "person" for each in budgets):
            what = f"{name} has a budget for persons and does not say whose its rows are: no plan for persons fits it"
            fix = f'Name the column that says it in {self._folder}/data/{name}.toml: person = "COLUMN".'
            return warning("data", "data.persons", what, fix)
        persons = f" of {len(report.rows_by_person)} persons" if report.rows_by_person else ""
        return good("data", f"{name}: {report.rows} rows{persons} fit {schema.name}")

    def confinement(self) -> Iterator[Finding]:
        """Whether this machine enforces what the policy demands of the training child."""
        if self._policy is None:
            return
        levels = enforceable(self._folder)
        lacking = [level for level in self._policy.confinement if level not in levels]
        if lacking:
            what = (
                f"the policy demands {', '.join(lacking)}, and this machine enforces {', '.join(levels) or 'nothing'}"
            )
            fix = "Allow Landlock and user namespaces (a container's seccomp profile may forbid them), or demand less."
            yield fault("confinement", "confinement.lacking", what, fix)
        else:
            yield good("confinement", f"enforced here: {', '.join(levels)}")

    def journal(self) -> Iterator[Finding]:
        """Whether the journal of releases is whole."""
        if self._wanted():
            yield good("journal", f"{len(read_journal(self._folder / 'journal.jsonl'))} releases, chain whole")

    def secure_sums(self) -> Iterator[Finding]:
        """Whether the records of secure sums are whole."""
        path = self._folder / "state" / "secagg.jsonl"
        if self._wanted() and path.is_file():
            signed = {(record.run_id, record.round) for record, _ in read_records(path) if record.signed}
            yield good("secure_sums", f"{len(signed)} inputs signed, records whole")

    def ledgers(self) -> Iterator[Finding]:
        """Whether the ledgers of data sets with a budget are whole, the newest that is known here, and writable."""
        from aimass.privacy.dp.ledger_file import HEAD, LINES, check_writable  # noqa: PLC0415  (accounting loads where it is needed)

        for name in sorted({budget.data_set for budget in self._policy.budgets}) if self._policy else ():
            folder = self._folder / "state" / "ledgers" / name
            try:
                reading, doubts = read_doubts(folder / LINES, folder / HEAD)
                check_writable(folder)
            except AimassError as error:
                yield of_error("ledgers", error, f"{name}: {error.cure}")
                continue
            if doubts:
                refusal = rolled_back(doubts[0], reading.ledger.ledger)
                yield of_error("ledgers", refusal, f"{name}: {refusal.cure}")
            elif not reading.heads:
                yield good("ledgers", f"{name}: none here yet; one begins with the first plan that asks for its rows")
            else:
                yield good("ledgers", f"{name}: {len(reading.heads)} lines, chain whole")

    def torch(self) -> Iterator[Finding]:
        """Whether training can run, and on what."""
        if not self._wanted():
            return
        if importlib.util.find_spec("torch") is None:
            yield fault(
                "torch",
                "torch.absent",
                "torch is not installed: nothing can be trained",
                "pip install 'aimass[client]'",
            )
            return
        from aimass.client.capacity import capacity_of, gpu_unused  # noqa: PLC0415  (torch is loaded where it is asked for)

        limits, version = self._child(), importlib.metadata.version("torch")
        try:
            device = capacity_of(limits)
        except AimassError as error:
            fix = f"In {self._folder}/client.toml, under [child]: another device, cpu, or none (nvidia-smi lists them)."
            yield of_error("torch", error, fix)
            return
        if gpu_unused(limits):
            what = f"torch {version} sees no GPU, and this machine has one: training runs on the CPU"
            cure = "Install torch's build for CUDA, and a driver that fits it (nvidia-smi)."
            yield warning("torch", "torch.no_cuda", what, cure)
        elif device.device != "cpu" and (said := cuda_inside(self._folder)):
            what = f"the GPU's driver does not start where training is locked in (cuInit: {said}): it runs on the CPU"
            cure = "Report it, with the versions of the driver (nvidia-smi) and of the kernel."
            yield warning("torch", "torch.locked_out", what, cure)
        else:
            yield good("torch", f"torch {version} on {device.described}")


def _sums(policy: Policy) -> str:
    secure = policy.secure
    profile = "a server that lies" if secure.profile == "malicious" else "a server that follows the protocol"
    return (
        f"{'secure sums alone' if policy.secure_aggregation or not policy.plain_sums else 'plain and secure sums'}, "
        f"secure against {profile}, of {policy.smallest_sum} partners or more, {secure.colluders:.0%} colluding"
    )


def _names(policy: Policy) -> str:
    return ", ".join(sorted({task.name for task in policy.tasks})) or "none"
