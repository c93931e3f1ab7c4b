//! nginx with a static file of one kilobyte, if it is installed (Debian's package `nginx`).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FILE_BYTES: usize = 1024;

/// One process that serves, without a log: everything else as Debian configures it.
const CONFIGURATION: &str = "
daemon off; master_process off; pid DIRECTORY/pid; error_log DIRECTORY/error.log;
events { worker_connections 768; }
http {
    sendfile on; tcp_nopush on; types_hash_max_size 2048; default_type text/plain;
    access_log off; keepalive_requests 100000000;
    client_body_temp_path DIRECTORY/body; proxy_temp_path DIRECTORY/proxy; fastcgi_temp_path DIRECTORY/fastcgi;
    uwsgi_temp_path DIRECTORY/uwsgi; scgi_temp_path DIRECTORY/scgi;
    server { listen ADDRESS; root DIRECTORY; }
}
";

pub(crate) struct Nginx {
    process: Child,
    pub(crate) address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Nginx {
    pub(crate) const REQUEST: &str = "GET /file HTTP/1.1\r\nHost: x\r\n";

    /// Starts it; `None` where there is none.
    pub(crate) fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = directory.path().to_str().unwrap();
        let configuration = CONFIGURATION.replace("DIRECTORY", path).replace("ADDRESS", &address.to_string());
        std::fs::write(directory.path().join("nginx.conf"), configuration).unwrap();
        std::fs::write(directory.path().join("file"), [b'x'; FILE_BYTES]).unwrap();
        // Without a master nothing changes to another user, who could not read the file.
        let log = directory.path().join("error.log");
        let process = Command::new("nginx")
            .args(["-p", path, "-c", "nginx.conf", "-e"])
            .arg(&log)
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Some(Self { process, address, _directory: directory });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not start: {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// The processor time that it has used, from the same counter as that of a thread of ours.
    pub(crate) fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.process.id())).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
