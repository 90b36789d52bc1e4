#!/usr/bin/env python3
"""fedportal for its developers. Standard library only; everything else is installed into .venv beside this file.

python3 dev.py demo [--once] [--port N]   the portal with a live federation; --once runs to the end, prints JSON
                                          --cast full adds a straggler, a drop-out, attackers, people, history;
                                          --secure lets the portal see sums of updates only
python3 dev.py run [--port N]             the portal alone
python3 dev.py test [PYTEST ARGUMENTS]    all tests: on SQLite, then on real PostgreSQL and Valkey
python3 dev.py check                      lint, types, import contracts, architecture, migrations
python3 dev.py bench [NAME …]             benchmarks; one JSON line per figure
python3 dev.py docs [--pictures]          the generated pages of docs/; with --pictures those of the README
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# torch comes first and alone, so that no other package draws in another build of it.
TORCH = "torch==2.13.0"
INPUTS = ("pyproject.toml", "sdk/pyproject.toml", "constraints.txt", "dev.py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What is tested a second time on PostgreSQL and Valkey: everything that touches rows or sends messages. Not the table
# of all routes: its answers are made by the same questions to the rows, which are asked here.
ON_SERVICES = (
    "tests/federations",
    "tests/registry",
    "tests/training",
    "tests/permissions/test_grants.py",
    "tests/permissions/test_sockets.py",
    "tests/live",
)
# Tests run side by side, twice as many as the processors of a small machine, for many of them wait; those that take
# long and mostly wait begin, so that none of them is left over at the end.
PROCESSES, PROCESSES_ON_SERVICES = 4, 2
FIRST = ("tests/faults", "tests/browser", "tests/journeys", "tests/protocol")
# They start some hundred Pythons, of which each would compile the portal or the SDK again where this is set.
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
SIGN_SECONDS = 10.0  # so often an installation that shows no progress says that it goes on
UNAVAILABLE = 69  # what tests.services exits with when a server cannot be had
NOTHING_COLLECTED = 5  # pytest's status when a selection matches no test


def main(arguments: list[str]) -> int:
    """Run one command; the exit status."""
    commands = {"demo": demo, "run": run, "test": test, "check": check, "bench": bench, "docs": docs}
    if not arguments or arguments[0] not in commands:
        print(__doc__, file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"], ["help"]) else 2
    if sys.version_info < (3, 11):  # noqa: UP036  (whoever starts this may have an older one)
        print("fedportal needs Python 3.11 or newer.", file=sys.stderr)
        return 2
    install()
    return commands[arguments[0]](arguments[1:])


# --- commands --------------------------------------------------------------------------------------------------------


def demo(rest: list[str]) -> int:
    """The demonstration."""
    return become("-m", "deploy.demo", *rest)


def run(rest: list[str]) -> int:
    """The portal alone, with its data in var/."""
    return become("-m", "fedportal.embedded", *rest)


def test(rest: list[str]) -> int:
    """All tests, or those that pytest's arguments choose (then on SQLite only)."""
    notes = [] if browser() else [f"BROWSER TESTS SKIPPED: none of {', '.join(BROWSERS)} is installed."]
    if rest:
        return report([("pytest", python("-m", "pytest", *rest))], notes)
    together = ("-n", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder")
    # What is tested on services is tested beside the others, and says how it went when they are done.
    few = ("-n", str(PROCESSES_ON_SERVICES), "--dist", "loadfile")
    with beside("-m", "tests.services", str(PYTHON), "-m", "pytest", *few, *ON_SERVICES, env=COMPILED) as end:
        results = [("tests on SQLite", python("-m", "pytest", *together, *folders_of_tests(), env=COMPILED))]
        services = end()
    if services == UNAVAILABLE:
        notes.append("TESTS ON POSTGRESQL AND VALKEY SKIPPED: they can neither be installed nor found here.")
    else:
        results.append(("tests on PostgreSQL and Valkey", services))
    return report(results, notes)


def folders_of_tests() -> list[str]:
    """All of them, in the order in which they begin."""
    found = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    return [*FIRST, *sorted(found - set(FIRST))]


def check(rest: list[str]) -> int:
    """Everything that can be said about the code without running it for real."""
    schema = VENV / "schema.yml"
    steps: list[tuple[str, Sequence[str]]] = [
        ("lint", ("-m", "ruff", "check", ".")),
        ("format", ("-m", "ruff", "format", "--check", ".")),
        ("types", ("-m", "mypy")),
        ("imports", ("-c", "from importlinter.cli import lint_imports_command as run; run()")),
        ("architecture", ("-m", "pytest", "tests/architecture")),
        ("migrations", ("manage.py", "makemigrations", "--check", "--dry-run")),
        ("django", ("manage.py", "check")),
        ("openapi", ("manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", str(schema))),
    ]
    return report(
        [(name, python(*command, env={"FEDPORTAL_DATA_DIR": str(VENV / "check")})) for name, command in steps], []
    )


def bench(rest: list[str]) -> int:
    """The named benchmarks, or all."""
    known = sorted(path.stem for path in (ROOT / "tests" / "bench").glob("[a-z]*.py"))
    unknown = [name for name in rest if name not in known]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    return max([python("-m", f"tests.bench.{name}") for name in rest or known], default=0)


def docs(rest: list[str]) -> int:
    """Write the generated pages, or take the pictures."""
    if rest == ["--pictures"]:
        return python("-m", "docs.pictures") if browser() else 1
    return python("-m", "docs.generate", *rest)


def report(results: Sequence[tuple[str, int]], notes: Sequence[str]) -> int:
    """A line per part, then what was left out, loudly; 1 if anything failed."""
    for note in notes:
        print(f"\n{'!' * 100}\n{note}\n{'!' * 100}", file=sys.stderr)
    print(file=sys.stderr)
    for name, status in results:
        print(f"{'ok     ' if status == 0 else 'FAILED '} {name}", file=sys.stderr)
    sys.stderr.flush()
    return int(any(status for _, status in results))


# --- installation ----------------------------------------------------------------------------------------------------


def install() -> None:
    """Bring .venv up to date; does nothing when its inputs are what they were."""
    stamp, wanted = VENV / "installed", digest()
    if not (stamp.exists() and stamp.read_text() == wanted and PYTHON.exists()):
        print(
            "fedportal installs what it needs into .venv (a few minutes, once, torch the most) …",
            file=sys.stderr,
        )
        make_venv()
        pip("torch", TORCH)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        pip("build tools", "-c", "constraints.txt", "setuptools", "wheel")
        pip(
            "dependencies", "-c", "constraints.txt", *project["dependencies"], *project["optional-dependencies"]["test"]
        )
        pip("the SDK", "-c", "constraints.txt", "--no-build-isolation", "-e", "./sdk")
        stamp.write_text(wanted)
    build_sdk_wheel()


def digest() -> str:
    """What an installation depends on."""
    whole = hashlib.sha256(sys.version.encode())
    for name in INPUTS:
        whole.update((ROOT / name).read_bytes())
    return whole.hexdigest()


def make_venv() -> None:
    """A .venv with pip: the present one if it is this Python's, else a fresh one."""
    notes = VENV / "pyvenv.cfg"
    same = notes.exists() and f"executable = {Path(sys.executable).resolve()}" in notes.read_text().splitlines()
    options = [] if same else ["--clear"]
    made = subprocess.run(
        [sys.executable, "-m", "venv", *options, str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        print(made.stdout + made.stderr, file=sys.stderr)
        sys.exit("The venv could not be made. On Debian and Ubuntu: apt-get install python3-venv, then try again.")


def pip(what: str, *arguments: str) -> None:
    """Install something: on a terminal pip shows how far it is, elsewhere a line now and then says that it goes on, and
    pip's words follow only if it fails. That ends the program."""
    print(f"  {what} …", file=sys.stderr, flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    if sys.stderr.isatty():
        status = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode
    else:
        status = patiently(what, [*command, "--quiet"])
    if status:
        sys.exit(f"Installing {what} failed. Check the network and the disk, then run the same command again.")


def patiently(what: str, command: Sequence[str]) -> int:
    """Run the command, with a line every SIGN_SECONDS; its exit status. What it said is printed if that is not 0."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        while True:
            try:
                status = process.wait(SIGN_SECONDS)
                break
            except subprocess.TimeoutExpired:
                print(f"  {what}, for {time.monotonic() - began:.0f} s …", file=sys.stderr, flush=True)
        said.seek(0)
        if status:
            print(said.read(), file=sys.stderr)
    return status


def build_sdk_wheel() -> None:
    """The wheel that the portal serves to devices, in .venv/sdk and in var/sdk; built anew when the SDK changed."""
    sources = [path for path in sorted((ROOT / "sdk").rglob("*")) if path.suffix in (".py", ".toml", ".md", ".typed")]
    whole = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    built, stamp = VENV / "sdk", VENV / "sdk" / "built"
    if not (stamp.exists() and stamp.read_text() == whole):
        shutil.rmtree(built, ignore_errors=True)
        command = [str(PYTHON), "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--no-build-isolation", "-w", str(built), "./sdk"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        shutil.rmtree(ROOT / "sdk" / "build", ignore_errors=True)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            sys.exit("The SDK's wheel could not be built.")
        stamp.write_text(whole)
    served = Path(os.environ.get("FEDPORTAL_DATA_DIR", ROOT / "var")) / "sdk"
    served.mkdir(parents=True, exist_ok=True)
    for wheel in built.glob("*.whl"):
        if not (served / wheel.name).exists() or (served / wheel.name).read_bytes() != wheel.read_bytes():
            shutil.copyfile(wheel, served / wheel.name)


def browser() -> str | None:
    """A Chromium or Chrome; as root on Debian and Ubuntu the package is installed if there is none."""
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    print("  the package chromium, for the browser tests …", file=sys.stderr)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
    ):
        if subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        ).returncode:
            break
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def python(*arguments: str, env: dict[str, str] | None = None) -> int:
    """Run the venv's Python in the project's folder; its exit status."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {})
    try:
        return subprocess.run([str(PYTHON), *arguments], cwd=ROOT, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 130


@contextmanager
def beside(*arguments: str, env: dict[str, str]) -> Iterator[Callable[[], int]]:
    """The venv's Python at work meanwhile; what is yielded waits for its end, prints its words and gives its status."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | env
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([str(PYTHON), *arguments], cwd=ROOT, env=environment, stdout=said, stderr=said)

        def end() -> int:
            status = process.wait()
            said.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(said, sys.stdout.buffer)
            return status

        try:
            yield end
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # it has servers to end
                process.wait()


def become(*arguments: str) -> int:
    """Let this process be the venv's Python, so that whoever ends it ends what it runs."""
    os.chdir(ROOT)
    os.execve(PYTHON, [str(PYTHON), *arguments], os.environ | {"PYTHONUNBUFFERED": "1"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
