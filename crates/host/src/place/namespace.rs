//! Network namespaces: entered by a thread that lives as long as it takes to make listening sockets there. The sockets
//! are served from outside; the address they listen at is put on the loopback interface inside.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use inborn_identity::MacAddress;
use rustix::fs::{OFlags, fstatfs};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

use super::error::NEEDS_NAMESPACE;
use super::netlink::Netlink;
use super::trace::{Holder, Trace, Traces};
use super::{ADDRESS_V4, ADDRESS_V6, Mark, NamespacePath, PORT, Place, PlaceError};

/// The magic number of the file system that namespaces are files of. Source: `linux/magic.h`.
const NSFS_MAGIC: i128 = 0x6e73_6673;
/// The loopback interface is the first of every namespace.
const LOOPBACK_INDEX: u32 = 1;
/// Connections that the kernel holds until they are accepted.
pub(super) const BACKLOG: i32 = 1024;

/// See [`Place::mark`]. The time is when the file came to be: it lives as long as it is mounted, and its number is given
/// to the next namespace afterwards.
pub(super) fn mark_of_path(path: &NamespacePath) -> Result<Option<Mark>, PlaceError> {
    let place = || Place::Namespace { path: path.clone() };
    let Some(file) = open_file(path.as_path(), place)? else { return Ok(None) };
    let facts = facts(&file, place)?;
    let (device, number) = (facts.st_dev(), facts.st_ino());
    let made = (facts.st_ctime(), facts.st_ctime_nsec());
    Ok(Some(Mark::new(format_args!("ns{device}.{number}.{}.{}", made.0, made.1))))
}

/// See [`Place::mark`].
pub(super) fn mark_of_process(pid: u32) -> Result<Option<Mark>, PlaceError> {
    let place = || Place::Process { pid };
    let Some(started) = start_time(pid) else { return Ok(None) };
    let Some(file) = open_file(&path_of(pid), place)? else { return Ok(None) };
    let number = facts(&file, place)?.st_ino();
    Ok(Some(Mark::new(format_args!("pid{pid}.{started}.{number}"))))
}

fn path_of(pid: u32) -> std::path::PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// When a process was started, in clock ticks of this boot: with it, a process id means one process. Source: proc(5),
/// `/proc/pid/stat`, field 22; the second field may hold anything, and ends at the last parenthesis.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn open_file(path: &Path, place: impl Fn() -> Place) -> Result<Option<File>, PlaceError> {
    // Whatever it is, opening it shall not wait.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(PlaceError::of(format!("cannot look at {}", place()), NEEDS_NAMESPACE, error)),
    }
}

/// Its numbers, once it is known to be a namespace. A file of `ip netns` whose namespace is gone is an ordinary file.
fn facts(file: &File, place: impl Fn() -> Place) -> Result<fs::Metadata, PlaceError> {
    let is_namespace = fstatfs(file).is_ok_and(|facts| i128::from(facts.f_type) == NSFS_MAGIC);
    if !is_namespace {
        return Err(PlaceError::NotANamespace { place: place() });
    }
    file.metadata().map_err(|error| PlaceError::of(format!("cannot look at {}", place()), NEEDS_NAMESPACE, error))
}

/// A namespace that is not this computer's own.
struct Opened {
    path: NamespacePath,
    file: File,
    mark: Mark,
}

/// Opens `place`, which is a namespace or that of a process.
fn look(place: &Place) -> Result<Opened, PlaceError> {
    let path: NamespacePath = match place {
        Place::Namespace { path } => path.clone(),
        Place::Process { pid } => path_of(*pid).to_string_lossy().into_owned().try_into().map_err(|_| absent(place))?,
        Place::Interface { .. } | Place::Vsock { .. } => return Err(absent(place)),
    };
    let own = || place.clone();
    let file = open_file(path.as_path(), own)?.ok_or_else(|| absent(place))?;
    let inside_facts = facts(&file, own)?;
    let outside = fs::metadata("/proc/self/ns/net")
        .map_err(|error| PlaceError::of("cannot look at this computer's namespace", NEEDS_NAMESPACE, error))?;
    if (outside.st_dev(), outside.st_ino()) == (inside_facts.st_dev(), inside_facts.st_ino()) {
        return Err(PlaceError::Own { place: place.clone() });
    }
    let mark = place.mark()?.ok_or_else(|| absent(place))?;
    Ok(Opened { path, file, mark })
}

fn kept(file: &File, place: &Place) -> Result<File, PlaceError> {
    file.try_clone().map_err(|error| PlaceError::of(format!("cannot look at {place}"), NEEDS_NAMESPACE, error))
}

/// Makes the listening sockets inside `place`, which is a namespace or that of a process.
pub(super) async fn open(place: &Place, holder: &Holder, traces: &Traces) -> Result<Vec<TcpListener>, PlaceError> {
    let Opened { path, file, mark } = look(place)?;
    let kept = kept(&file, place)?;
    let (place, holder, traces) = (place.clone(), holder.clone(), traces.clone());
    let within = place.clone();
    inside(file, &within, move || async move {
        set_up(&place, &path, &mark, &holder, &traces).await?;
        traces.keep(mark, kept);
        let mut listeners = vec![listen(&place, ADDRESS_V4.into())?];
        // Where the namespace has no IPv6, the machine has none either.
        listeners.extend(listen(&place, ADDRESS_V6.into()).ok());
        Ok(listeners)
    })
    .await?
}

/// A socket inside `place`, from where the machine is reached at `address`. What the machine does not call its own is put on
/// its loopback interface first: there, nothing is heard at it that does not listen at all addresses, as on EC2 nothing is
/// that listens at 127.0.0.1.
pub(super) async fn socket(
    place: &Place,
    address: Ipv4Addr,
    holder: &Holder,
    traces: &Traces,
) -> Result<Socket, PlaceError> {
    let Opened { path, file, mark } = look(place)?;
    let kept = kept(&file, place)?;
    let (place, holder, traces) = (place.clone(), holder.clone(), traces.clone());
    let within = place.clone();
    inside(file, &within, move || async move {
        let failed = |error| PlaceError::of(format!("cannot reach into {place}"), NEEDS_NAMESPACE, error);
        let netlink = Netlink::open().map_err(failed)?;
        if !netlink.is_own(address).await.map_err(failed)? {
            let address = IpAddr::V4(address);
            traces.note(&holder, Trace::Inside { namespace: path, mark: mark.clone(), address }).map_err(failed)?;
            traces.keep(mark, kept);
            netlink.add_address(LOOPBACK_INDEX, address).await.map_err(failed)?;
        }
        Socket::new(Domain::IPV4, Type::STREAM, None).map_err(failed)
    })
    .await?
}

/// The MAC of the interface inside `place`, which is a namespace or that of a process, if there is one.
pub(super) async fn own_mac(place: &Place) -> Result<Option<MacAddress>, PlaceError> {
    let path = match place {
        Place::Namespace { path } => path.as_path().to_owned(),
        Place::Process { pid } => path_of(*pid),
        Place::Interface { .. } | Place::Vsock { .. } => return Ok(None),
    };
    let Some(file) = open_file(&path, || place.clone())? else { return Ok(None) };
    let failed = |error| PlaceError::of(format!("cannot look at the interfaces of {place}"), NEEDS_NAMESPACE, error);
    let look = || async { Netlink::open()?.own_mac().await };
    inside(file, place, look).await?.map_err(failed)
}

fn absent(place: &Place) -> PlaceError {
    PlaceError::Absent { place: place.clone() }
}

/// Puts the metadata addresses on the loopback interface where they are not there yet.
async fn set_up(
    place: &Place,
    path: &NamespacePath,
    mark: &Mark,
    holder: &Holder,
    traces: &Traces,
) -> Result<(), PlaceError> {
    let failed =
        |error| PlaceError::of(format!("cannot set up the loopback interface of {place}"), NEEDS_NAMESPACE, error);
    let netlink = Netlink::open().map_err(failed)?;
    netlink.bring_up(LOOPBACK_INDEX).await.map_err(failed)?;
    for address in [IpAddr::from(ADDRESS_V4), IpAddr::from(ADDRESS_V6)] {
        let trace = Trace::Inside { namespace: path.clone(), mark: mark.clone(), address };
        if netlink.has_address(LOOPBACK_INDEX, address).await.map_err(failed)? {
            continue;
        }
        traces.note(holder, trace.clone()).map_err(failed)?;
        match netlink.add_address(LOOPBACK_INDEX, address).await {
            Ok(()) => {}
            Err(error) if address.is_ipv6() => {
                tracing::debug!(%place, %error, "no IPv6 there");
                traces.forget(holder, &trace);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn listen(place: &Place, address: IpAddr) -> Result<TcpListener, PlaceError> {
    let address = SocketAddr::new(address, PORT);
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => PlaceError::InUse { place: place.clone() },
        _ => PlaceError::of(format!("cannot listen in {place}"), NEEDS_NAMESPACE, error),
    })
}

/// Takes an address away inside the namespace that was `kept`, else in the one of that name, if it is still the one that
/// the address was put into.
pub(super) async fn remove_address(
    path: &NamespacePath,
    mark: &Mark,
    kept: Option<Arc<File>>,
    address: IpAddr,
) -> Result<(), PlaceError> {
    let place = place_of(path);
    let file = match kept {
        Some(file) => file.try_clone().ok(),
        // Where nothing can be looked at, nothing is left.
        None if place.mark().is_ok_and(|now| now.as_ref() == Some(mark)) => {
            open_file(path.as_path(), || place.clone())?
        }
        None => None,
    };
    let Some(file) = file else { return Ok(()) };
    let within = place.clone();
    inside(file, &within, move || async move {
        let failed = |error| PlaceError::of(format!("cannot tidy up {place}"), NEEDS_NAMESPACE, error);
        let netlink = Netlink::open().map_err(failed)?;
        netlink.remove_address(LOOPBACK_INDEX, address).await.map_err(failed)
    })
    .await?
}

/// The place that a path means: that of a process is known by its process.
pub(super) fn place_of(path: &NamespacePath) -> Place {
    let pid =
        path.as_path().to_str().and_then(|text| text.strip_prefix("/proc/")?.strip_suffix("/ns/net")?.parse().ok());
    pid.map_or_else(|| Place::Namespace { path: path.clone() }, |pid| Place::Process { pid })
}

/// Does `work` in a thread that has entered `namespace` and does nothing else afterwards: a thread of the runtime would
/// take the namespace along to its next task.
async fn inside<W, F, T>(namespace: File, place: &Place, work: W) -> Result<T, PlaceError>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = T>,
    T: Send + 'static,
{
    let failed = |error| PlaceError::of(format!("cannot enter {place}"), NEEDS_NAMESPACE, error);
    let (done, result) = oneshot::channel();
    let enter = move || -> io::Result<T> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        Ok(runtime.block_on(work()))
    };
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            let _ = done.send(enter());
        })
        .map_err(failed)?;
    result.await.map_err(|_| failed(io::Error::other("its thread has ended")))?.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_mark_and_one_that_never_was_has_none() {
        let own = mark_of_process(std::process::id()).unwrap().unwrap();
        assert_eq!(mark_of_process(std::process::id()).unwrap(), Some(own.clone()));
        assert!(own.as_str().contains(&format!("/pid{}.", std::process::id())), "{}", own.as_str());
        assert_eq!(mark_of_process(u32::MAX).unwrap(), None);
        assert_eq!(mark_of_path(&"/run/netns/there-is-none-of-this-name".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn what_is_no_namespace_is_told_apart() {
        for path in ["/dev/null", "/proc/self/stat", "/tmp"] {
            let error = mark_of_path(&path.parse().unwrap()).unwrap_err();
            assert!(matches!(error, PlaceError::NotANamespace { .. }), "{path}: {error}");
        }
    }

    #[test]
    fn the_namespace_of_a_process_is_the_process() {
        let place = |path: &str| place_of(&path.parse().unwrap());
        assert_eq!(place("/proc/7/ns/net"), Place::Process { pid: 7 });
        for path in ["/proc/self/ns/net", "/proc/7/ns/mnt", "/run/netns/7", "/proc/x7/ns/net"] {
            assert_eq!(place(path), Place::Namespace { path: path.parse().unwrap() });
        }
    }

    #[tokio::test]
    async fn our_own_namespace_is_no_place_for_a_machine() {
        for place in [
            Place::Process { pid: std::process::id() },
            Place::Namespace { path: "/proc/self/ns/net".parse().unwrap() },
        ] {
            let holder = Holder { instance: inborn_identity::InstanceId::from_bytes([1; 9]), place: place.clone() };
            let error = open(&place, &holder, &Traces::default()).await.unwrap_err();
            assert!(matches!(error, PlaceError::Own { .. }), "{error}");
        }
    }
}
