"""The Debian packages: built, looked into, installed into a root of their own, and the program run from there."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from harness import HERE, READY_SECONDS, ROOT, Region, binary, clean_env, run, scratch, wait_until

TREE = HERE.parent
SCRIPTS = ("postinst", "prerm")
pytestmark = [
    pytest.mark.skipif(
        not ROOT or shutil.which("dpkg-deb") is None or shutil.which("cargo") is None,
        reason="needs root, dpkg and cargo",
    ),
    # The manual is a test of the program, which may have to be built; and a large file is compressed.
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def packages():
    """The three packages by name, of the program under test without what debuggers need."""
    with scratch() as place:
        small = place / "inborn"
        run(["strip", "-o", small, binary()], dict(os.environ), check=True)
        command = ["cargo", "xtask", "package", "--binary", small, "--out", place / "out"]
        run(command, dict(os.environ), timeout=1200, check=True, cwd=TREE)
        yield {path.name.split("_")[0]: path for path in (place / "out").glob("*.deb")}


def dpkg(*words: str | Path) -> str:
    return run(["dpkg-deb", *words], dict(os.environ), check=True).stdout


def contents(package: Path) -> dict[str, tuple[str, str]]:
    """Mode and owner of each path."""
    lines = [line.split(maxsplit=5) for line in dpkg("--contents", package).splitlines()]
    return {line[5].removeprefix("."): (line[0], line[1]) for line in lines}


def test_there_are_three(packages):
    assert set(packages) == {"inborn", "inborn-host", "inborn-guest"}
    version = dpkg("--field", packages["inborn"], "Version").strip()
    for name in ("inborn-host", "inborn-guest"):
        assert dpkg("--field", packages[name], "Architecture").strip() == "all"
        assert f"inborn (= {version})" in dpkg("--field", packages[name], "Depends")
    assert re.search(r"libc6 \(>= 2\.\d+\)", dpkg("--field", packages["inborn"], "Depends"))
    assert dpkg("--field", packages["inborn"], "Architecture").strip() in {"amd64", "arm64"}


def test_everything_is_roots_and_nobody_elses_to_write(packages):
    for package in packages.values():
        for path, (mode, owner) in contents(package).items():
            assert owner == "root/root", path
            assert mode[5] != "w" and mode[8] != "w", (path, mode)


def test_documents_lead_to_documents_that_are_there(packages):
    """A link to another document of docs/, in any that a package ships."""
    shipped = {path for package in packages.values() for path in contents(package)}
    for document in sorted((TREE / "docs").glob("*.md")):
        assert f"/usr/share/doc/inborn/{document.name}" in shipped
        for linked in re.findall(r"\]\((\w[\w-]*\.md)[)#]", document.read_text()):
            assert f"/usr/share/doc/inborn/{linked}" in shipped, (document.name, linked)
    for name in ("inborn-host", "inborn-guest"):
        assert f"/usr/share/doc/{name}/README.Debian" in shipped


def test_conffiles_are_what_is_below_etc(packages):
    for package in packages.values():
        below = {path for path in contents(package) if path.startswith("/etc/") and not path.endswith("/")}
        conffiles = run(["dpkg-deb", "--info", package, "conffiles"], dict(os.environ)).stdout.split()
        assert set(conffiles) == below


def installed(packages, root: Path, *names: str) -> subprocess.CompletedProcess:
    """dpkg's own installation, with the scripts run outside of the root, which has no shell."""
    for directory in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "etc"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for name, line in (("passwd", "root:x:0:0::/:/bin/sh\n"), ("group", "root:x:0:\n")):
        (root / "etc" / name).exists() or (root / "etc" / name).write_text(line)
    (root / "var/lib/dpkg/status").touch()
    force = ["--force-depends", "--force-script-chrootless"]
    log = ["--log", root / "dpkg.log"]
    command = ["dpkg", "--root", root, *force, *log, "--install", *(packages[name] for name in names)]
    return run(command, dict(os.environ), timeout=120, check=True)


def test_installed_into_a_root_the_program_serves(packages, place: Path):
    root = place / "root"
    installed(packages, root, "inborn")
    assert "ii  inborn" in run(["dpkg", "--root", root, "--list", "inborn"], dict(os.environ)).stdout
    passwd = (root / "etc/passwd").read_text()
    assert re.search(r"^inborn:x:\d+:\d+:.*:/var/lib/inborn:", passwd, re.M), passwd
    program = root / "usr/bin/inborn"
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    region = Region(place / "data", place / "home", "--config", str(root / "etc/inborn/inborn.toml"))
    region.program = program
    try:
        region.start()
        assert region.client("sts").get_caller_identity()["Account"] == region.account
    finally:
        region.stop()


def test_all_three_are_installed_upgraded_and_removed(packages, place: Path):
    root = place / "root"
    every = ("inborn", "inborn-host", "inborn-guest")
    installed(packages, root, *every)
    settings = root / "etc/inborn/inborn.toml"
    settings.write_text('region = "eu-central-1"\n')
    (root / "var/lib/inborn").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/inborn/epoch.key").write_text("precious")
    installed(packages, root, *every)
    assert settings.read_text() == 'region = "eu-central-1"\n', "an upgrade leaves it alone"
    assert (root / "usr/lib/systemd/system/inborn.service.d/host.conf").exists()
    hook = root / "etc/libvirt/hooks/qemu.d/inborn"
    assert os.access(hook, os.X_OK)
    force = ["--force-depends", "--force-script-chrootless", "--log", root / "dpkg.log"]
    run(["dpkg", "--root", root, *force, "--purge", *reversed(every)], dict(os.environ), check=True)
    assert not (root / "usr/bin/inborn").exists() and not settings.exists() and not hook.exists()
    assert (root / "var/lib/inborn/epoch.key").read_text() == "precious", "not even a purge takes the key away"


def test_every_service_of_the_program_has_what_it_is_started_with(packages, place: Path):
    """Settings that it names, a place for its state, and scripts that stop it and that restart it when it is new."""
    root = place / "root"
    installed(packages, root, "inborn")
    units = root / "usr/lib/systemd/system"
    scripts = {name: run(["dpkg-deb", "--info", packages["inborn"], name], dict(os.environ)).stdout for name in SCRIPTS}
    directories = (root / "usr/lib/tmpfiles.d/inborn.conf").read_text()
    services = {unit.name: unit.read_text() for unit in units.glob("*.service")}
    assert set(services) == {"inborn.service", "inborn-region.service"}
    for name, text in services.items():
        for settings in re.findall(r"--config (/\S+)", text):
            assert (root / settings.lstrip("/")).is_file(), settings
        state = re.search(r"^StateDirectory=(\S+)$", text, re.M)[1]
        assert re.search(rf"^d /var/lib/{state} 0700 inborn inborn -$", directories, re.M), state
        assert re.search(rf"try-restart .*\b{re.escape(name)}", scripts["postinst"]), name
    stopped = re.search(r"disable --now (.*?) \|\|", scripts["prerm"], re.S)[1].replace("\\", "").split()
    assert set(stopped) == {*services, *(unit.name for unit in units.glob("*.socket"))}


def test_a_region_server_starts_with_the_settings_of_the_package(packages, place: Path):
    root = place / "root"
    installed(packages, root, "inborn")
    settings = root / "etc/inborn/region.toml"
    ports = ["--port", "0", "--tls-port", "0", "--operations-port", "0"]
    command = [root / "usr/bin/inborn", "region", "--config", settings, "--data", place / "data", *ports]
    environment = clean_env(place / "home")
    refused = run(command, environment)
    assert refused.returncode == 1 and "INBORN_STORE" in refused.stderr, "it says what is to be set"
    # Each line that is commented out is one that it takes.
    lines = settings.read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    whole = [line.removeprefix("# ") for line in lines if re.match(r"# (\w+ = |\[)", line)]
    assert len(whole) >= 10
    trial = place / "region.toml"
    trial.write_text("\n".join([*whole, ""]).replace("postgres:", "nonsense:"))
    refused = run([trial if word == settings else word for word in command], environment)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
    assert refused.stderr.startswith("inborn: store: "), refused.stderr
    ready = place / "data/ready.json"
    environment["INBORN_STORE"] = f"sqlite:{place}/store.db"
    with subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: ready.exists() or server.poll() is not None, "the server is ready", READY_SECONDS)
            assert server.poll() is None
        finally:
            server.terminate()


def test_units_name_what_is_there(packages, place: Path):
    root = place / "root"
    installed(packages, root, "inborn", "inborn-host", "inborn-guest")
    for unit in (root / "usr/lib/systemd/system").glob("*.service"):
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart="):
                program = re.search(r"/usr/bin/\w+", line)[0]
                assert (root / program.lstrip("/")).exists(), line
    if shutil.which("systemd-analyze"):
        # What every Debian has.
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy("/bin/sh", root / "bin/sh")
        told = run(["systemd-analyze", "verify", "--root", root, "--man=no", "inborn.service"], dict(os.environ))
        # The root has none of systemd's own units.
        complaints = [line for line in told.stderr.splitlines() if "inborn" in line and "sysinit.target" not in line]
        assert not complaints, complaints


def test_man_pages_can_be_read(packages, place: Path):
    root = place / "root"
    installed(packages, root, "inborn")
    pages = sorted((root / "usr/share/man/man1").glob("*.gz"))
    assert len(pages) > 30
    for page in pages:
        text = gzip.decompress(page.read_bytes()).decode()
        assert text.count(".SH") >= 3 and "__pocket" not in text, page
    if shutil.which("man"):
        page = root / "usr/share/man/man1/inborn-up.1.gz"
        environment = clean_env(place, MANWIDTH="80", MAN_KEEP_FORMATTING="")
        told = run(["man", "--warnings", "-l", page], environment, check=True)
        assert "--tls-port" in told.stdout and "INBORN_TLS_PORT" in told.stdout
        assert not told.stderr.strip(), told.stderr


def test_bash_completes(packages, place: Path):
    root = place / "root"
    installed(packages, root, "inborn")
    script = """
    . "$1"
    COMP_WORDS=(inborn do) COMP_CWORD=1; _inborn inborn do inborn; echo "${COMPREPLY[@]}"
    COMP_WORDS=(inborn up --dr) COMP_CWORD=2; _inborn inborn --dr up; echo "${COMPREPLY[@]}"
    """
    told = run(["bash", "-c", script, "bash", root / "usr/share/bash-completion/completions/inborn"], clean_env(place))
    assert told.stdout.split("\n")[:2] == ["doctor", "--drain"], (told.stdout, told.stderr)
