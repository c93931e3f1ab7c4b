//! A server with little room: some of what it writes is on a small file system of its own, which a test fills and empties. Only
//! the server sees that file system, and it ends with it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Cluster, PORT, START_MAX, initialised, is_root};

/// What has little room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Little {
    /// What databases hold: they are in a tablespace there.
    Tables,
    /// The log that is written ahead.
    Log,
}

/// Mounts, then starts a server for each line of standard input; when that ends, it ends all and tidies up.
const SCRIPT: &str = r#"set -e
    mount -t tmpfs -o "size=$3,mode=700,uid=65534,gid=65534" none "$2/room"
    if [ "$4" = log ]; then
        cp -a "$2/data/pg_wal/." "$2/room/"
        mount --bind "$2/room" "$2/data/pg_wal"
    fi
    set +e
    setpriv --reuid=65534 --regid=65534 --clear-groups -- /bin/sh -c '
        while read -r _; do
            "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=50 \
                >> "$2/log" 2>&1 < /dev/null &
        done
        [ ! -e "$2/data/postmaster.pid" ] || kill -INT "$(head -n 1 "$2/data/postmaster.pid")"
        wait' sh "$1" "$2"
    cd /
    [ "$4" != log ] || umount "$2/data/pg_wal"
    umount "$2/room"
    rm -rf "$2""#;

/// Root in a container may not be allowed to mount; says what was said then.
fn may_mount() -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let tried = Command::new("unshare")
        .args(["--mount", "--propagation=private", "--", "mount", "-t", "tmpfs", "none"])
        .arg(directory.path())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if tried.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned()) }
}

/// Such a server.
pub(crate) struct LittleRoom {
    pub(crate) cluster: Cluster,
    /// Where its small file system is seen from outside.
    room: PathBuf,
}

impl LittleRoom {
    /// Starts one; `None` where that needs more than this process may, which is said aloud.
    pub(crate) fn start(programs: &Path, little: Little) -> Option<Self> {
        if !is_root() {
            assert!(std::env::var_os("CI").is_none(), "on CI nobody reads that this was skipped: run it as root");
            eprintln!("!! SKIPPED, not tested: a small file system takes root");
            return None;
        }
        if let Err(why) = may_mount() {
            assert!(std::env::var_os("CI").is_none(), "on CI nobody reads that this was skipped: {why}");
            eprintln!("!! SKIPPED, not tested: a small file system takes the right to mount: {why}");
            return None;
        }
        // Little segments of the log, so that little room is enough for several.
        let directory = initialised(programs, &["--wal-segsize=1"]);
        std::fs::create_dir(directory.join("room")).unwrap();
        let (size, word) = match little {
            Little::Tables => ("32m", "tables"),
            Little::Log => ("24m", "log"),
        };
        let shell = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--", "/bin/sh", "-c", SCRIPT, "sh"])
            .arg(programs)
            .arg(&directory)
            .args([size, word])
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = directory.join("room").strip_prefix("/").unwrap().to_owned();
        let room = PathBuf::from(format!("/proc/{}/root", shell.id())).join(seen);
        let cluster = Cluster { directory, programs: programs.to_owned(), port: PORT, shell, again: Vec::new() };
        let mut started = Self { cluster, room };
        started.start_again();
        started.cluster.wait();
        if little == Little::Tables {
            let location = started.cluster.directory.join("room");
            let tablespace = format!("CREATE TABLESPACE little LOCATION '{}'", location.display());
            started.cluster.sql(&started.cluster.url("postgres"), &tablespace);
        }
        Some(started)
    }

    /// A new, empty database in the tablespace that has little room.
    pub(crate) fn database(&self) -> String {
        self.cluster.database_with("TABLESPACE little")
    }

    fn ballast(&self) -> PathBuf {
        self.room.join("ballast")
    }

    /// Leaves no room at all.
    pub(crate) fn fill(&self) {
        let mut ballast: File = OpenOptions::new().create_new(true).append(true).open(self.ballast()).unwrap();
        for piece in [1 << 16, 1 << 12] {
            let piece = vec![0; piece];
            loop {
                match ballast.write(&piece) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Gives it back.
    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Starts the server after it has ended.
    pub(crate) fn start_again(&mut self) {
        writeln!(self.cluster.shell.stdin.as_mut().unwrap(), "start").unwrap();
    }

    /// Waits until the server answers: by itself, or, as an operator would, by being started again if it has ended.
    pub(crate) fn come_back(&mut self) {
        let begun = Instant::now();
        while !self.cluster.answers() {
            assert!(begun.elapsed() < START_MAX, "PostgreSQL does not come back");
            // It removes the file when it ends; a start beside one that lives ends at once by the same file.
            if !self.cluster.directory.join("data/postmaster.pid").exists() {
                self.start_again();
                std::thread::sleep(Duration::from_secs(1));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
