//! The flags of a new machine, and the parameters of `RunInstances` that they are.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use inborn_identity::MetadataOptions;
use inborn_store::UserData;

const HOP_LIMITS: std::ops::RangeInclusive<i64> =
    MetadataOptions::HOP_LIMIT_MIN as i64..=MetadataOptions::HOP_LIMIT_MAX as i64;

/// How the new machine is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Machine {
    /// Its name: the tag `Name`
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Its user data: the contents of FILE, or of standard input for `-`
    #[arg(long, value_name = "FILE|-")]
    pub(crate) user_data: Option<PathBuf>,
    /// The key pair whose public half its metadata shows
    #[arg(long, value_name = "NAME")]
    pub(crate) key_name: Option<String>,
    /// Whether metadata requests need a session token (IMDSv2)
    #[arg(long, value_name = "optional|required", value_parser = ["optional", "required"])]
    pub(crate) http_tokens: Option<String>,
    /// Whether there is a metadata service at all
    #[arg(long, value_name = "enabled|disabled", value_parser = ["enabled", "disabled"])]
    pub(crate) http_endpoint: Option<String>,
    /// How many network hops a session token may travel: 1 keeps it from containers behind a bridge [default: 1]
    #[arg(long, value_name = "1-64", value_parser = clap::value_parser!(i64).range(HOP_LIMITS))]
    pub(crate) hop_limit: Option<i64>,
    /// Answer metadata at fd00:ec2::254 too
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Show the machine's tags in its metadata
    #[arg(long)]
    pub(crate) metadata_tags: bool,
    /// The image it claims to be made from
    #[arg(long, value_name = "AMI", default_value = "ami-00000000000000000")]
    pub(crate) image_id: String,
    /// The type it claims to be of
    #[arg(long, value_name = "TYPE", default_value = "m5.large")]
    pub(crate) instance_type: String,
}

impl Machine {
    /// What `RunInstances` is asked for.
    ///
    /// # Errors
    /// The user data cannot be read, or is too long.
    pub(crate) fn parameters(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut parameters = Vec::new();
        let mut set = |name: &str, value: Option<String>| {
            parameters.extend(value.map(|value| (name.to_owned(), value)));
        };
        let enabled = |flag: bool| flag.then(|| "enabled".to_owned());
        set("ImageId", Some(self.image_id.clone()));
        set("InstanceType", Some(self.instance_type.clone()));
        set("MinCount", Some("1".to_owned()));
        set("MaxCount", Some("1".to_owned()));
        set("KeyName", self.key_name.clone());
        set("UserData", self.user_data.as_deref().map(user_data).transpose()?.map(|bytes| BASE64.encode(bytes)));
        set("MetadataOptions.HttpTokens", self.http_tokens.clone());
        set("MetadataOptions.HttpEndpoint", self.http_endpoint.clone());
        set("MetadataOptions.HttpPutResponseHopLimit", self.hop_limit.map(|limit| limit.to_string()));
        set("MetadataOptions.HttpProtocolIpv6", enabled(self.ipv6));
        set("MetadataOptions.InstanceMetadataTags", enabled(self.metadata_tags));
        let name = self.name.iter().map(|name| ("Name".to_owned(), name.clone()));
        let tags: Vec<(String, String)> = name.chain(self.tags.iter().cloned()).collect();
        set("TagSpecification.1.ResourceType", (!tags.is_empty()).then(|| "instance".to_owned()));
        for (index, (key, value)) in tags.into_iter().enumerate() {
            let prefix = format!("TagSpecification.1.Tag.{}", index + 1);
            set(&format!("{prefix}.Key"), Some(key));
            set(&format!("{prefix}.Value"), Some(value));
        }
        Ok(parameters)
    }
}

/// The bytes of user data. One byte over the limit is read, and no more: the file may be anything.
fn user_data(path: &Path) -> anyhow::Result<Vec<u8>> {
    let (source, what): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(std::io::stdin().lock()), "standard input".to_owned())
    } else {
        let what = path.display().to_string();
        (Box::new(File::open(path).with_context(|| format!("cannot read the user data in {what}"))?), what)
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(UserData::BYTES_MAX)?.saturating_add(1);
    source.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read the user data in {what}"))?;
    if bytes.len() > UserData::BYTES_MAX {
        bail!("the user data in {what} is longer than {} bytes: have it fetch the rest", UserData::BYTES_MAX);
    }
    Ok(bytes)
}

/// Splits `KEY=VALUE`; a value may hold further `=`.
fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag is KEY=VALUE, as in role=web".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        machine: Machine,
    }

    fn parse(words: &[&str]) -> Result<Machine, clap::Error> {
        Alone::try_parse_from(["x"].iter().chain(words)).map(|alone| alone.machine)
    }

    fn parameters(words: &[&str]) -> Vec<(String, String)> {
        parse(words).unwrap().parameters().unwrap()
    }

    #[test]
    fn a_machine_without_flags_says_no_more_than_it_must() {
        let names: Vec<_> = parameters(&[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ImageId", "InstanceType", "MinCount", "MaxCount"]);
    }

    #[test]
    fn each_flag_is_a_parameter() {
        let words = "--name web --tag a=b=c --key-name k --http-tokens optional --http-endpoint disabled --hop-limit 64 \
                     --ipv6 --metadata-tags";
        let found = parameters(&words.split_whitespace().collect::<Vec<_>>());
        for expected in [
            ("KeyName", "k"),
            ("MetadataOptions.HttpTokens", "optional"),
            ("MetadataOptions.HttpEndpoint", "disabled"),
            ("MetadataOptions.HttpPutResponseHopLimit", "64"),
            ("MetadataOptions.HttpProtocolIpv6", "enabled"),
            ("MetadataOptions.InstanceMetadataTags", "enabled"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "Name"),
            ("TagSpecification.1.Tag.1.Value", "web"),
            ("TagSpecification.1.Tag.2.Key", "a"),
            ("TagSpecification.1.Tag.2.Value", "b=c"),
        ] {
            assert!(found.iter().any(|(name, value)| (name.as_str(), value.as_str()) == expected), "{expected:?}");
        }
    }

    #[test]
    fn hop_limits_below_at_and_above_their_bounds() {
        for (limit, fits) in [("0", false), ("1", true), ("2", true), ("63", true), ("64", true), ("65", false)] {
            assert_eq!(parse(&["--hop-limit", limit]).is_ok(), fits, "{limit}");
        }
    }

    #[test]
    fn user_data_below_at_and_above_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        for (length, fits) in
            [(0, true), (UserData::BYTES_MAX - 1, true), (UserData::BYTES_MAX, true), (UserData::BYTES_MAX + 1, false)]
        {
            std::fs::write(&path, vec![0xff; length]).unwrap();
            match user_data(&path) {
                Ok(bytes) => assert!(fits && bytes == vec![0xff; length], "{length}"),
                Err(error) => assert!(!fits && error.to_string().contains("longer than 16384 bytes"), "{error}"),
            }
        }
        let absent = user_data(&directory.path().join("absent")).unwrap_err();
        assert!(format!("{absent:#}").contains("absent: No such file"), "{absent:#}");
    }

    #[test]
    fn user_data_is_sent_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, b"#!/bin/sh\n\0\xff").unwrap();
        let found = parameters(&["--user-data", path.to_str().unwrap()]);
        assert!(found.contains(&("UserData".to_owned(), "IyEvYmluL3NoCgD/".to_owned())), "{found:?}");
    }

    #[test]
    fn tags_are_split_at_the_first_equals_sign() {
        assert_eq!(tag("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(tag("a="), Ok(("a".into(), String::new())));
        assert!(tag("a").is_err() && tag("=b").is_err());
    }
}
