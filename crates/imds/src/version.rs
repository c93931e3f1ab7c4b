//! The versions of the tree: names that all lead to the same one.

/// The versions, in the order that `GET /` lists them.
///
/// Clients pin dated ones: cloud-init 2009-04-04 to 2021-03-23, Afterburn 2021-01-03, Bottlerocket 2021-07-15.
/// Source: listings of EC2 instances of 2014 to 2024 in public captures, joined; no instance showed all of them.
pub const VERSIONS: [&str; 30] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-07-09",
    "2022-09-24",
    "2024-04-11",
    LATEST,
];

/// The one version in which all is new.
pub(crate) const LATEST: &str = "latest";

/// Whether `segment` names a version. `latest`, which nearly everybody asks for, is looked at first.
pub(crate) fn is_version(segment: &[u8]) -> bool {
    segment == LATEST.as_bytes() || VERSIONS.iter().any(|version| version.as_bytes() == segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_in_order_and_once() {
        assert!(VERSIONS.is_sorted());
        assert!(VERSIONS.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn the_versions_that_clients_pin() {
        for version in
            ["latest", "1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-01-03", "2021-03-23", "2021-07-15"]
        {
            assert!(is_version(version.as_bytes()), "{version}");
        }
        for version in ["", "Latest", "latest ", "1", "2.0", "2021-07-16", "2021-7-15", "9999-12-31"] {
            assert!(!is_version(version.as_bytes()), "{version}");
        }
    }
}
