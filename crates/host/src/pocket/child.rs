//! The child: from a plain process to the command in its pocket, step by step.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Signal, geteuid, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set, unshare_unsafe};
use tokio::net::UnixStream;

use super::message::{FromChild, Go, TO_CHILD_BYTES_MAX, ToChild};
use super::network::NetworkError;
use super::sockets::Sockets;
use super::{EXIT_FAILED, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, mounts, network, terminal};
use crate::passing::Channel;

/// A sentence for the person who waits, and the exit code that goes with it.
struct Failure {
    message: String,
    exit_code: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, exit_code: EXIT_FAILED }
    }
}

/// What the program does when its first argument is [`super::CHILD_ARGUMENT`]; `arguments` are those behind it. Returns
/// only if the command could not be executed.
///
/// Call it before anything else: a process with two threads cannot enter a user namespace.
pub fn child_main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(socket) = arguments.next().and_then(|number| inherited_socket(&number)) else {
        let _ = writeln!(io::stderr(), "inborn: this form of the command is for `inborn run` itself");
        return ExitCode::from(EXIT_FAILED);
    };
    let command: Vec<OsString> = arguments.collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "inborn: cannot start: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let exit_code = runtime.block_on(async {
        let mut channel = match UnixStream::from_std(socket) {
            Ok(stream) => Channel::new(stream),
            Err(_) => return EXIT_FAILED,
        };
        let Err(Failure { message, exit_code }) = become_command(&mut channel, &command).await;
        // A parent that is gone needs no explanation.
        let _ = channel.send(&FromChild::Failed { message, exit_code }, &[]).await;
        exit_code
    });
    ExitCode::from(exit_code)
}

/// Takes the socket that the parent left open under this number, and sees to it that the command does not get it too.
fn inherited_socket(number: &OsString) -> Option<StdUnixStream> {
    let number: RawFd = number.to_str()?.parse().ok()?;
    let link = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if number <= 2 || !link.as_os_str().to_str()?.starts_with("socket:") {
        return None;
    }
    #[allow(unsafe_code, reason = "an inherited descriptor is known by nothing but its number")]
    // SAFETY: the descriptor is open (it was just looked up) and nothing in this process owns it: the program has only
    // started and has opened nothing but what it was given.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&socket, FdFlags::CLOEXEC).ok()?;
    let socket = StdUnixStream::from(socket);
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

async fn become_command(channel: &mut Channel, command: &[OsString]) -> Result<std::convert::Infallible, Failure> {
    let user_namespace = leave()?;
    say(channel, &FromChild::Unshared { user_namespace }).await?;
    let ToChild::Mapped { way_out } = hear(channel).await? else { return Err(confused()) };
    mounts::separate().map_err(explain)?;
    let tap = network::bring_up(way_out).await.map_err(|error| match error {
        NetworkError::Namespace(error) => explain(format!("cannot set up the pocket's network: {error}")),
        NetworkError::WayOut(error) => error.into(),
    })?;
    {
        let sockets = Sockets::open().map_err(|(address, error)| format!("cannot listen on {address}: {error}"))?;
        let mut descriptors = sockets.descriptors();
        descriptors.extend(tap.as_ref().map(AsFd::as_fd));
        let sent = channel.send(&FromChild::Ready, &descriptors).await;
        sent.map_err(|error| error.to_string())?;
    }
    drop(tap);
    let ToChild::Go(go) = hear(channel).await? else { return Err(confused()) };
    mounts::arrange(&go).map_err(explain)?;
    give_up_powers().map_err(|error| format!("cannot give up the powers of the set-up: {error}"))?;
    tie_to_parent(&go)?;
    if go.terminal {
        terminal::become_controlling().map_err(|error| format!("cannot take the terminal: {error}"))?;
    }
    Err(execute(command, &go))
}

/// Enters new namespaces; says whether one of them is a user namespace. Root can do without where those are forbidden.
fn leave() -> Result<bool, Failure> {
    let inner = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    match unshare(inner | UnshareFlags::NEWUSER) {
        Ok(()) => Ok(true),
        Err(_) if geteuid().is_root() && unshare(inner).is_ok() => Ok(false),
        // To the kernel too many namespaces are a lack of space, which would send people to look at their disks.
        Err(Errno::NOSPC) => Err(explain("cannot make namespaces: their number is limited".to_owned())),
        Err(error) => Err(explain(format!("cannot make namespaces: {error}"))),
    }
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    #[allow(unsafe_code, reason = "rustix has no safe form of unshare")]
    // SAFETY: the flags hold no FILES, the one flag that can take descriptors away from other threads.
    unsafe {
        unshare_unsafe(flags)
    }
}

async fn say(channel: &mut Channel, message: &FromChild) -> Result<(), Failure> {
    channel.send(message, &[]).await.map_err(|error| error.to_string().into())
}

async fn hear(channel: &mut Channel) -> Result<ToChild, Failure> {
    match channel.receive(TO_CHILD_BYTES_MAX).await {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err("inborn run has ended".to_owned().into()),
        Err(error) => Err(error.to_string().into()),
    }
}

fn confused() -> Failure {
    "the program and the process of the pocket are of two versions: start it again".to_owned().into()
}

/// What root in a pocket could undo the pocket with: unmount what hides the operator's keys, or look through another
/// process at what is hidden. A command of any other user has no powers to begin with. Namespaces made inside the pocket
/// get the powers back, but the kernel locks the mounts that they take over.
fn give_up_powers() -> Result<(), Errno> {
    [CapabilitySet::SYS_ADMIN, CapabilitySet::SYS_PTRACE].into_iter().try_for_each(remove_capability_from_bounding_set)
}

/// From here on the command dies with the parent's thread that started it.
fn tie_to_parent(go: &Go) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("cannot tie the command: {error}"))?;
    // The parent may have died just before, and its signal never comes.
    let parent = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    if parent != Some(go.parent) {
        return Err("inborn run has ended".to_owned().into());
    }
    Ok(())
}

/// Becomes the command. The standard library puts SIGPIPE and the signal mask back to what programs expect; no other
/// signal was touched, and what the caller had ignored (`nohup`) stays ignored.
fn execute(command: &[OsString], go: &Go) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return "there is no command to run".to_owned().into();
    };
    let variables = go.environment.iter().map(|(name, value)| (name, value));
    let error = Command::new(program).args(arguments).envs(variables).exec();
    let (exit_code, error) = match error.kind() {
        io::ErrorKind::NotFound => (EXIT_NOT_FOUND, error),
        // A directory of PATH that may not be entered hides that no other has the program either.
        io::ErrorKind::PermissionDenied if !is_anywhere(program) => (EXIT_NOT_FOUND, Errno::NOENT.into()),
        _ => (EXIT_NOT_EXECUTABLE, error),
    };
    Failure { message: format!("cannot run {}: {error}", program.display()), exit_code }
}

/// Whether there is a file that `program` could mean.
fn is_anywhere(program: &OsStr) -> bool {
    let by_name = !program.as_encoded_bytes().contains(&b'/');
    let path = std::env::var_os("PATH").filter(|_| by_name);
    path.is_none_or(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

/// Adds what a person can do about a kernel that forbids namespaces.
fn explain(message: String) -> Failure {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|value| value.trim().to_owned());
    let setting = |name: &str| read(&format!("/proc/sys/{}", name.replace('.', "/")));
    format!("{message}; {}", advice(setting, geteuid().is_root())).into()
}

/// What stands in the way of namespaces, told by the values of kernel settings.
fn advice(setting: impl Fn(&str) -> Option<String>, root: bool) -> String {
    let remedies = [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "10000"),
        ("user.max_net_namespaces", "0", "10000"),
        ("user.max_mnt_namespaces", "0", "10000"),
    ];
    let set: Vec<String> = remedies
        .iter()
        .filter(|(name, bad, _)| setting(name).as_deref() == Some(bad))
        .map(|(name, bad, good)| format!("{name} is {bad}: allow it with `sysctl -w {name}={good}`"))
        .collect();
    let found = if set.is_empty() {
        "the kernel, or the container this runs in, forbids user namespaces".to_owned()
    } else {
        set.join(", and ")
    };
    let as_root = if root { "" } else { "run as root, or " };
    format!("{found}; or {as_root}use `inborn launch --export`, which needs no namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_stands_in_the_way_is_named() {
        let none = advice(|_| None, true);
        assert!(!none.contains("as root"), "{none}");
        assert!(
            none.starts_with("the kernel, or the container") && none.contains("`inborn launch --export`"),
            "{none}"
        );
        for (name, value) in [
            ("kernel.apparmor_restrict_unprivileged_userns", "1"),
            ("kernel.unprivileged_userns_clone", "0"),
            ("user.max_user_namespaces", "0"),
        ] {
            let text = advice(|asked| (asked == name).then(|| value.to_owned()), false);
            assert!(text.starts_with(&format!("{name} is {value}: ")) && text.contains("run as root"), "{text}");
            assert!(!advice(|asked| (asked == name).then(|| "77".to_owned()), false).contains(name));
        }
    }

    #[test]
    fn only_a_socket_above_the_standard_streams_is_taken() {
        for number in ["", "x", "-1", "0", "2", "99999", "9999999999"] {
            assert!(inherited_socket(&number.into()).is_none(), "{number}");
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
        assert!(inherited_socket(&number.into()).is_none());
    }
}
