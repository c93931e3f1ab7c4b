//! Memory and threads of a thousand attached machines.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::{self, NO_LIMIT};

const GUESTS: u16 = 1000;

pub(crate) fn run() {
    inborn_listener::raise_file_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let host = lab::host(NO_LIMIT);
        let (memory, threads) = (status("VmRSS"), status("Threads"));
        let mut addresses = Vec::new();
        for number in 0..GUESTS {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            host.attach_pocket(lab::machine(number), [listener]);
        }
        let attached = status("VmRSS") - memory;
        let mut open = Vec::new();
        for address in addresses {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 401");
            open.push(stream);
        }
        println!("{GUESTS} attached machines: {} threads more", status("Threads") - threads);
        println!("    {:.1} MB, {:.1} KB each", attached as f64 / 1024.0, attached as f64 / f64::from(GUESTS));
        let connected = status("VmRSS") - memory;
        println!("    {:.1} MB with a connection open to each", connected as f64 / 1024.0);
    });
}

/// A number of /proc/self/status: kilobytes, or a count.
fn status(name: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
