//! Telemetry as machines send it, made up: half of it does not repeat, so that it becomes about half by gzip.

use std::io::Write;

/// Numbers that do not repeat.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Letters and digits as in tokens and digests.
    fn letters(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length).map(|_| char::from(LETTERS[(self.next() >> 32) as usize % 64])).collect()
    }
}

/// A program that was started: of `length` bytes, or of as many as it takes.
pub(crate) fn event(noise: &mut Noise, length: usize) -> String {
    let directories = ["/usr/bin", "/usr/local/bin", "/opt/app/current/bin", "/srv/app/node_modules/.bin", "/tmp"];
    let directory = directories[(noise.next() % 5) as usize];
    let mut n = || noise.next();
    let mut event = format!(
        r#"{{"class_uid":1007,"category_uid":1,"activity_id":1,"type_uid":100701,"severity_id":1,"time":{},"metadata":{{"version":"1.3.0","uid":"{:016x}{:016x}","product":{{"name":"bench","vendor_name":"Inborn"}}}},"device":{{"type_id":6,"hostname":"web-{}"}},"actor":{{"process":{{"pid":{},"uid":"{:016x}","name":"sh","file":{{"path":"/usr/bin/sh","name":"sh","type_id":1}}}}}},"process":{{"pid":{},"uid":"{:016x}","name":"p{:x}","file":{{"path":"{directory}/{:08x}","name":"run","type_id":1,"hashes":[{{"algorithm_id":3,"value":"{:016x}{:016x}{:016x}{:016x}"}}]}},"user":{{"uid":"{}"}},"cmd_line":"run "#,
        1_800_000_000_000 - n() % 60_000,
        n(),
        n(),
        n() % 50,
        n() % 65_536,
        n(),
        n() % 65_536,
        n(),
        n() % 65_536,
        n() >> 32,
        n(),
        n(),
        n(),
        n(),
        n() % 2000
    );
    while event.len() + 3 < length {
        let name = ["--token=", "--in /var/tmp/", "--out /srv/", "-e ", "--user "][(noise.next() % 5) as usize];
        let left = length - 3 - event.len();
        let letters = 8 + (noise.next() % 40) as usize;
        let argument = format!("{name}{} ", noise.letters(letters));
        event.push_str(&argument[..left.min(argument.len())]);
    }
    event.push_str("\"}}");
    event
}

/// An `ExportLogsServiceRequest` of these resource attributes and bodies of log records.
pub(crate) fn request(attributes: &[(&str, &str)], bodies: impl Iterator<Item = String>) -> Vec<u8> {
    let mut resource = Vec::new();
    for (key, value) in attributes {
        let value = field(0x12, &field(0x0a, value.as_bytes()));
        resource.extend(field(0x0a, &[field(0x0a, key.as_bytes()), value].concat()));
    }
    let mut scope = Vec::new();
    for body in bodies {
        scope.extend(field(0x12, &field(0x2a, &field(0x0a, body.as_bytes()))));
    }
    field(0x0a, &[field(0x0a, &resource), field(0x12, &scope)].concat())
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
