//! A request as the listener read it.

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, as on the wire: methods are case-sensitive.
    pub method: &'a str,
    /// The request target as on the wire: path and, after `?`, a query, which is ignored.
    pub path: &'a [u8],
    /// The headers.
    pub headers: &'a dyn Headers,
}

/// The headers of a request, looked up by lower-case name.
pub trait Headers {
    /// The value of the first header of this name, without surrounding blanks.
    fn get(&self, name: &str) -> Option<&[u8]>;

    /// Whether there is a header of this name, with any value.
    fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
}

impl Headers for Vec<(Vec<u8>, Vec<u8>)> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.as_slice())
    }
}

impl core::fmt::Debug for Request<'_> {
    /// Without the headers, which carry session tokens.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &String::from_utf8_lossy(self.path))
            .finish_non_exhaustive()
    }
}
