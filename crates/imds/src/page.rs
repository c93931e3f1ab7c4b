//! The pages that EC2 puts into error answers: XHTML that calls itself ISO-8859-1 and is served as plain `text/html`.
//!
//! The 404 page is known to the byte from a capture (339 bytes with the final newline); the other two take its form.

macro_rules! page {
    ($title:literal) => {
        concat!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n",
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n",
            "\t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n",
            "<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n",
            " <head>\n  <title>",
            $title,
            "</title>\n </head>\n <body>\n  <h1>",
            $title,
            "</h1>\n </body>\n</html>\n"
        )
    };
}

/// A bad token TTL.
pub(crate) const BAD_REQUEST: &str = page!("400 - Bad Request");
/// A token that is missing, or not good here and now.
pub(crate) const UNAUTHORIZED: &str = page!("401 - Unauthorized");
/// A path that is not in the tree.
pub(crate) const NOT_FOUND: &str = page!("404 - Not Found");

#[cfg(test)]
mod tests {
    use super::*;

    /// `Content-Length: 339` in public captures of EC2.
    #[test]
    fn not_found_has_the_length_of_the_captured_page() {
        assert_eq!(NOT_FOUND.len(), 339);
        assert!(NOT_FOUND.contains("<title>404 - Not Found</title>") && NOT_FOUND.contains("<h1>404 - Not Found</h1>"));
        assert!(NOT_FOUND.ends_with("</html>\n"));
    }

    #[test]
    fn the_others_differ_only_in_their_title() {
        assert_eq!(NOT_FOUND.replace("404 - Not Found", "401 - Unauthorized"), UNAUTHORIZED);
        assert_eq!(NOT_FOUND.replace("404 - Not Found", "400 - Bad Request"), BAD_REQUEST);
    }
}
