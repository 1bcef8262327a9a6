"""The sandbox: what commands inside can and cannot do, tried with both back ends."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenline.ci.repair.sandbox.container import Container, open_container
from greenline.ci.repair.sandbox.interpreters import readable_of
from greenline.ci.repair.sandbox.sandbox import (
    NoSandbox,
    Result,
    Sandbox,
    Service,
    Settings,
    base_python,
    open_sandbox,
    settings_of,
)
from greenline.depgraph.errors import GreenlineError

bubblewrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed (.ci/needs/agents.sh)")
podman = pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed (.ci/needs/agents.sh)")
slow = pytest.mark.slow


@pytest.fixture(
    scope="module", params=[pytest.param("bubblewrap", marks=bubblewrap), pytest.param("container", marks=podman)]
)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    settings = Settings(processes=64, file_size=4, tmp_size=16)
    if request.param == "container":
        image, runtime = request.getfixturevalue("engine")
        settings = settings._replace(backend="container", image=image, runtime=runtime, memory=1024)
    return open_sandbox(settings)


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[str, str]]:
    """(an image with nothing but Debian's python3, a podman with storage of its own); made without any registry."""
    top = Path(tempfile.mkdtemp(prefix="podman"))  # podman takes no --runroot of more than 50 characters
    (top / "containers.conf").write_text('[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n')
    runc = f"--runtime={shutil.which('runc')}" if shutil.which("runc") else ""  # crun refuses some mixed cgroups
    where = f"--root={top}/root --runroot={top}/run --tmpdir={top}/tmp --storage-driver=vfs --events-backend=none"
    program = top / "podman"
    program.write_text(
        f'#!/bin/sh\nCONTAINERS_CONF={top}/containers.conf exec {shutil.which("podman")} {where} {runc} "$@"\n'
    )
    program.chmod(0o755)
    tree = top / "tree"
    for folder in ("usr/bin", "tmp", "proc", "dev", "sys", "etc", "run"):
        (tree / folder).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    for name in ("bin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    python = os.path.realpath("/usr/bin/python3")
    needed = subprocess.run(["ldd", python], capture_output=True, text=True, check=True).stdout
    gcc = glob.glob("/lib/*/libgcc_s.so.1")  # threads want it as they end
    for path in [python, *re.findall(r"/\S+", needed), *gcc]:
        target = tree / "usr" / path.removeprefix("/").removeprefix("usr/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tree / "usr/bin/python3").symlink_to(os.path.basename(python))
    library = f"usr/lib/{os.path.basename(python)}"
    shutil.copytree(f"/{library}", tree / library, ignore=shutil.ignore_patterns("__pycache__", "test", "idlelib"))
    image = "localhost/greenline-test:1"
    with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as packed:
        subprocess.run([program, "import", "-", image], stdin=packed.stdout, check=True, capture_output=True)
    tried = subprocess.run([program, "run", "--rm", image, "python3", "-c", ""], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"podman cannot run containers here: {tried.stderr.strip()}")
    yield image, str(program)
    subprocess.run([program, "rm", "--all", "--force"], capture_output=True)
    shutil.rmtree(top, ignore_errors=True)


def run(sandbox: Sandbox, folder: Path, code: str, timeout: float = 60.0, **more: object) -> Result:
    command = ["python3" if isinstance(sandbox, Container) else base_python(), "-c", code]
    arguments = {"environment": {}, "timeout": timeout, "writable": [str(folder)], **more}
    return sandbox.run(command, str(folder), **arguments)  # type: ignore[arg-type]


@slow
def test_it_writes_where_it_may(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    done = run(
        sandbox, tmp_path / "a", "open('x', 'w').write('1'); open('/tmp/y', 'w').write('2'); print(open('x').read())"
    )
    assert (done.code, done.output, done.timed_out) == (0, "1\n", False)
    assert (tmp_path / "a" / "x").read_text() == "1" and not Path("/tmp/y").exists()
    assert (tmp_path / "a" / "x").stat().st_uid == os.geteuid()  # given back


@slow
@pytest.mark.parametrize(
    "code",
    [
        "open('{outside}/secret').read()",
        "open('/etc/shadow').read()",
        "open('/usr/x', 'w')",
        "open('/x', 'w')",
        "open('{folder}/.git/config', 'a')",
        "import os; os.rename('{folder}/.git', '{folder}/other')",
        "import os; os.listdir('/home')",
        "import os; os.listdir('/sys')",
        "import os; os.setuid(0)",
        "import os; os.mknod('{folder}/sda', 0o60600, os.makedev(8, 0))",
        "import os; os.kill({pid}, 9)",
        "import socket; socket.create_connection(('1.1.1.1', 53), 2)",
        "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "import subprocess; subprocess.run(['mount', '-t', 'tmpfs', 'x', '/tmp'], check=True)",
        "open('{folder}/big', 'wb').write(bytes(64 << 20))",
        "open('/tmp/big', 'wb').write(bytes(64 << 20))",
        "open('/proc/sys/kernel/hostname', 'w').write('x')",
        "open('/proc/1/environ').read()",
    ],
)
def test_what_is_refused(sandbox: Sandbox, tmp_path: Path, code: str) -> None:
    if isinstance(sandbox, Container) and any(path in code for path in ("'/sys'", "/proc/1/environ")):
        pytest.skip("engines show a read-only /sys, and their init has the environment that was given")
    folder, outside = tmp_path / "inside", tmp_path / "outside"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("")
    outside.mkdir()
    (outside / "secret").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run(sandbox, folder, code.format(folder=folder, outside=outside, port=port, pid=os.getpid()))
    assert done.code != 0 and "rror: " in done.output, done


@slow
def test_the_environment_is_what_was_given(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    code = "import os, glob\nprint(sorted(os.environ))\nfor p in glob.glob('/proc/[0-9]*/environ'):\n"
    code += "    try: print(open(p).read())\n    except OSError: pass"
    done = run(sandbox, tmp_path, code, environment={"A": "b"})
    own = ["HOSTNAME", "TERM", "container"] if isinstance(sandbox, Container) else ["PWD"]
    assert done.output.splitlines()[0] == str(sorted(["A", "HOME", "LANG", "PATH", "TMPDIR", *own]))
    assert "canary" not in done.output


@slow
def test_all_that_was_started_is_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    code = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "for _ in range(20):\n    if os.fork() == 0: os.setsid(); time.sleep(4711)\n"
    code += "print('up', flush=True); time.sleep(4711)"
    start = time.monotonic()
    done = run(sandbox, tmp_path, code, timeout=5)
    assert done.timed_out and done.code == 137 and done.output == "up\n" and time.monotonic() - start < 60
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "4711" not in left


@slow
def test_processes_are_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    code = "import os, time\ncount = 0\nwhile True:\n    try:\n        if os.fork() == 0: time.sleep(600)\n"
    code += "        count += 1\n"
    code += "    except OSError: print(count, flush=True); os._exit(3)"
    done = run(sandbox, tmp_path, code)
    assert done.code == 3 and int(done.output) <= 64


@slow
def test_output_is_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    done = run(
        sandbox,
        tmp_path,
        "import sys\nprint('start')\nfor _ in range(20): sys.stdout.write('x' * (1 << 20))\nprint('end')",
    )
    assert len(done.output) < 7 << 20 and done.output.startswith("start") and done.output.endswith("end\n")


@pytest.fixture
def echo() -> Iterator[int]:
    """A server on loopback that answers in capital letters."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(connection.recv(100).upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)  # a thread in accept() would go on with whatever socket gets this number next
    thread.join()
    server.close()


@slow
def test_a_declared_service_is_reached_and_nothing_else(sandbox: Sandbox, tmp_path: Path, echo: int) -> None:
    code = "import socket\ns = socket.create_connection(('127.0.0.1', 5432)); s.sendall(b'abc'); print(s.recv(9))\n"
    code += f"try: socket.create_connection(('127.0.0.1', {echo}), 2)\nexcept OSError: print('closed')"
    done = run(sandbox, tmp_path, code, services=[Service("db", f"127.0.0.1:{echo}", 5432)])
    assert done.output == "b'ABC'\nclosed\n"


@slow
def test_a_unix_socket_as_a_service(sandbox: Sandbox, tmp_path: Path) -> None:
    path = f"/tmp/greenline-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.chmod(path, 0o666)
        try:
            server.listen()
            code = "import socket\ns = socket.socket(socket.AF_UNIX); s.connect('/run/db.sock'); print('in')"
            folder = tmp_path / "a"
            folder.mkdir()
            done = run(sandbox, folder, code, services=[Service("db", path, path="/run/db.sock")])
        finally:
            os.unlink(path)
    assert done.output == "in\n"


@slow
def test_tests_run_with_their_environment(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("import socket\ndef test_a():\n    socket.create_server(('127.0.0.1', 0))\n")
    inside, site = isinstance(sandbox, Container), os.path.dirname(os.path.dirname(pytest.__file__))
    done = sandbox.run(
        ["python3" if inside else sys.executable, "-m", "pytest", "-q"],
        str(tmp_path),
        environment={"PYTHONPATH": site, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if inside else {},
        timeout=120,
        writable=[str(tmp_path)],
        readable=[site] if inside else readable_of(sys.executable, str(tmp_path)),
    )
    assert "1 passed" in done.output


@slow
@bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_probe_passes_for_an_ordinary_user_too() -> None:
    """Root takes another way (it gives up its power inside), so both are tried."""
    python = "/usr/bin/python3"
    if (
        not os.path.exists(python)
        or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode
    ):
        pytest.skip("no Python 3.11 that every user may start")
    roots = [str(Path(__file__).parents[2] / name) for name in ("ci", "depgraph")]
    code = f"import sys; sys.path[:0] = {roots}\n"
    code += "from greenline.ci.repair.sandbox.sandbox import *\nopen_sandbox(Settings())"
    done = subprocess.run(
        [python, "-c", code],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/"},
        capture_output=True,
        text=True,
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("other users may not read this checkout")
    assert (done.returncode, done.stderr) == (0, "")


# -- the command line of the container back end: a program that notes its arguments stands in for the engine -----------


RECORD = """\
#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
print("{{}}" if sys.argv[1] == "version" else sys.argv[-1])
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "calls.jsonl"
    (folder / "docker").write_text(RECORD.format(python=base_python(), log=str(log)))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def test_what_a_container_is_started_with(runtime: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "work", tmp_path / "data"
    (folder / ".git").mkdir(parents=True)
    other.mkdir()
    box = open_container(Settings("container", image="ci:1", processes=99, memory=1000))
    done = box.run(
        ["pytest", "$(touch x)"],
        str(folder),
        environment={"A": "b c"},
        timeout=60,
        writable=[str(folder)],
        readable=[str(other)],
        services=[Service("db", "127.0.0.1:5", 5432)],
    )
    assert done.output == "$(touch x)\n"
    _, call, removal = map(json.loads, runtime.read_text().splitlines())
    pairs = set(itertools.pairwise(call))
    wanted = [
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--pull", "never"),
    ]
    wanted += [("--pids-limit", "99"), ("--memory", "1000m"), ("--env", "A=b c")]
    assert set(wanted) <= pairs and {"--rm", "--read-only", "--init"} <= set(call)
    user = call[call.index("--user") + 1]
    assert not user.startswith("0:")
    mounts = [part for part in call if part.startswith("type=bind")]
    assert f"type=bind,source={folder},target={folder}" in mounts
    assert f"type=bind,source={folder}/.git,target={folder}/.git,readonly" in mounts
    assert f"type=bind,source={other},target={other},readonly" in mounts
    assert sum(not mount.endswith(",readonly") for mount in mounts) == 2  # the folder and the service's socket
    image = call.index("ci:1")
    assert call[image + 1 : image + 5] == ["python3", "-I", "-S", "/run/greenline/inside.py"]
    assert json.loads(call[image + 5])["services"] == [[5432, "/run/greenline/0.sock"]]
    assert removal == ["rm", "--force", call[call.index("--name") + 1]]


def test_a_runtime_that_isolates_nothing_is_found_out(runtime: Path) -> None:
    """The stand-in only prints: no probe ran inside, so nothing is taken for isolated."""
    with pytest.raises(NoSandbox, match="cannot start"):
        open_sandbox(Settings("container", image="ci:1"))


@pytest.mark.skipif(not shutil.which("docker"), reason="no docker client")
@pytest.mark.skipif(os.path.exists("/var/run/docker.sock"), reason="a docker engine may be running")
def test_a_runtime_without_an_engine_is_refused() -> None:
    with pytest.raises(NoSandbox, match="docker cannot run containers"):
        open_sandbox(Settings("container", image="ci:1"))


def test_bubblewrap_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoSandbox, match="bubblewrap is not installed"):
        open_sandbox(Settings())


def test_settings_are_read_from_text() -> None:
    service = {"name": "db", "target": "127.0.0.1:5432", "port": "5432"}
    found = settings_of({"backend": "container", "image": "x", "memory": "10", "services": [service]})
    assert found == Settings("container", image="x", memory=10, services=(Service("db", "127.0.0.1:5432", 5432),))
    with pytest.raises(GreenlineError, match="neither port nor path"):
        settings_of({"services": [{"name": "db", "target": "a:1"}]})
