"""The clients of other languages, as `cargo xtask setup` builds them: how each is started, and what it can do."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import HERE

#: Where the built clients are.
BUILT = Path(os.environ.get("INBORN_CLIENTS") or HERE.parent / "target/compat")
#: The JVM trusts the store that it brings, and no variable or system file names another: its users import the
#: authority with `keytool`. The region's own certificate is the last one of the bundle.
TRUSTING_JVM = """set -eu
store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
if [ -n "${AWS_CA_BUNDLE:-}" ]; then
  last='/BEGIN CERTIFICATE/ { text = "" } { text = text $0 "\\n" } END { printf "%s", text }'
  awk "$last" "$AWS_CA_BUNDLE" > "$store/ca"
  set -- -Djavax.net.ssl.trustStore="$store/trust" -Djavax.net.ssl.trustStorePassword=changeit "$@"
  cd "$store"
  keytool -importcert -noprompt -alias region -file ca -keystore trust -storepass changeit 2> log
fi
java -XX:TieredStopAtLevel=1 "$@"
"""


@dataclass(frozen=True)
class Client:
    """One SDK: `argv MODE…` prints one line of JSON, keyed by mode."""

    name: str
    argv: tuple[str, ...]
    #: What has to be there for it to run.
    built: Path
    #: The programs whose directories it needs on the path.
    programs: tuple[str, ...] = ()
    #: The operations that its `refusals` asks for.
    services: tuple[str, ...] = ("sts GetSessionToken", "sqs ListQueues", "iam ListUsers", "s3 ListBuckets")

    def path(self, given: str) -> str:
        """`given`, and where this machine keeps the client's interpreter."""
        found = (shutil.which(program) for program in self.programs)
        return ":".join([given, *sorted({str(Path(one).parent) for one in found if one})])


JS = Client("js-v3", ("node", "--no-warnings", str(HERE / "js/client.mjs")), HERE / "js/node_modules", ("node",))
GO_V1 = Client("go-v1", (str(BUILT / "gov1"),), BUILT / "gov1")
GO_V2 = Client("go-v2", (str(BUILT / "gov2"),), BUILT / "gov2")
JAVA = Client(
    "java-v2",
    ("sh", "-c", TRUSTING_JVM, "sh", "-cp", f"{BUILT}/java:{BUILT}/java/lib/*", "Client"),
    BUILT / "java/Client.class",
    ("java", "keytool"),
)
RUST = Client("rust", (str(BUILT / "rust"),), BUILT / "rust", services=("sts GetSessionToken", "sqs ListQueues"))
#: Doubles of what speaks to Systems Manager: the agent of a machine, and the client's end of a session.
AGENT = Client("agent", (str(BUILT / "agent"),), BUILT / "agent")
PLUGIN = Client("plugin", (str(BUILT / "plugin"),), BUILT / "plugin")
#: AWS's own plugin, which the AWS CLI starts under another name.
SESSION_MANAGER_PLUGIN = Client(
    "session-manager-plugin", (str(BUILT / "sessionmanagerplugin-main"),), BUILT / "sessionmanagerplugin-main"
)
#: The OpenTelemetry Collector with the components that send lines of a file.
COLLECTOR = Client("collector", (str(BUILT / "collector"),), BUILT / "collector")
ALL = (JS, GO_V1, GO_V2, JAVA, RUST)


def require(client: Client) -> Client:
    """Skips where `cargo xtask setup` found no toolchain for it; on CI that is a failure."""
    if client.built.exists():
        return client
    reason = f"the {client.name} client is not built: `cargo xtask setup` says which toolchain is missing"
    if os.environ.get("CI", "false") not in ("", "false"):
        pytest.fail(reason)
    pytest.skip(reason)
