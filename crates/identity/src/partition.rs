//! Partitions: separate worlds of accounts and names.

use core::fmt;
use core::str::FromStr;

use crate::{IdError, Region};

/// One partition. Chosen by the operator's configuration, never read from a request.
///
/// Source of ids, suffixes, region patterns and global regions: botocore `data/partitions.json`, as of 1.44.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Partition {
    /// The standard partition.
    Aws,
    /// China.
    AwsCn,
    /// US GovCloud.
    AwsUsGov,
    /// US ISO.
    AwsIso,
    /// US ISOB.
    AwsIsoB,
    /// EU ISOE.
    AwsIsoE,
    /// US ISOF.
    AwsIsoF,
    /// European sovereign cloud.
    AwsEusc,
}

struct Facts {
    id: &'static str,
    dns_suffix: &'static str,
    global_region: &'static str,
    /// What a region name of the partition starts with, before `-WORD-NUMBER`.
    region_prefixes: &'static [&'static str],
}

impl Partition {
    /// All of them, the standard one first.
    pub const ALL: [Partition; 8] = [
        Self::Aws,
        Self::AwsCn,
        Self::AwsUsGov,
        Self::AwsIso,
        Self::AwsIsoB,
        Self::AwsIsoE,
        Self::AwsIsoF,
        Self::AwsEusc,
    ];

    const fn facts(self) -> Facts {
        const fn facts(
            id: &'static str,
            dns_suffix: &'static str,
            global_region: &'static str,
            region_prefixes: &'static [&'static str],
        ) -> Facts {
            Facts { id, dns_suffix, global_region, region_prefixes }
        }
        match self {
            Self::Aws => {
                facts("aws", "amazonaws.com", "us-east-1", &["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"])
            }
            Self::AwsCn => facts("aws-cn", "amazonaws.com.cn", "cn-northwest-1", &["cn"]),
            Self::AwsUsGov => facts("aws-us-gov", "amazonaws.com", "us-gov-west-1", &["us-gov"]),
            Self::AwsIso => facts("aws-iso", "c2s.ic.gov", "us-iso-east-1", &["us-iso"]),
            Self::AwsIsoB => facts("aws-iso-b", "sc2s.sgov.gov", "us-isob-east-1", &["us-isob"]),
            Self::AwsIsoE => facts("aws-iso-e", "cloud.adc-e.uk", "eu-isoe-west-1", &["eu-isoe"]),
            Self::AwsIsoF => facts("aws-iso-f", "csp.hci.ic.gov", "us-isof-south-1", &["us-isof"]),
            Self::AwsEusc => facts("aws-eusc", "amazonaws.eu", "eusc-de-east-1", &["eusc-de"]),
        }
    }

    /// The id, as in an ARN: `aws-cn`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.facts().id
    }

    /// What follows `SERVICE.REGION.` in an endpoint name: `amazonaws.com.cn`. Also what metadata says in
    /// `services/domain`, unless the operator chose a domain of his own.
    #[must_use]
    pub const fn dns_suffix(self) -> &'static str {
        self.facts().dns_suffix
    }

    /// The region that clients sign for when they use a global endpoint such as `sts.amazonaws.com`.
    #[must_use]
    pub const fn global_region(self) -> &'static str {
        self.facts().global_region
    }

    /// Whether `region` has the form of this partition's own regions: prefix, a word, a number.
    ///
    /// A self-hosted region may have any name in any partition; this tells only what an AWS tool would assume of it.
    #[must_use]
    pub fn owns(self, region: &Region) -> bool {
        self.facts().region_prefixes.iter().any(|prefix| {
            let rest = region.as_str().strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
            rest.and_then(|rest| rest.split_once('-')).is_some_and(|(word, number)| {
                !word.is_empty()
                    && word.bytes().all(|b| b.is_ascii_alphanumeric())
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit())
            })
        })
    }

    /// The partition an AWS tool would assume for `region`, if any.
    #[must_use]
    pub fn of_region(region: &Region) -> Option<Self> {
        Self::ALL.into_iter().find(|partition| partition.owns(region))
    }
}

impl FromStr for Partition {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|partition| partition.id() == text).ok_or(IdError::PARTITION)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        for partition in Partition::ALL {
            assert_eq!(partition.to_string().parse(), Ok(partition));
        }
        assert!("aws-mars".parse::<Partition>().is_err());
    }

    #[test]
    fn each_region_belongs_to_one_partition() {
        let cases = [
            ("us-east-1", Some(Partition::Aws)),
            ("mx-central-1", Some(Partition::Aws)),
            ("cn-north-1", Some(Partition::AwsCn)),
            ("us-gov-west-1", Some(Partition::AwsUsGov)),
            ("us-iso-east-1", Some(Partition::AwsIso)),
            ("us-isob-east-1", Some(Partition::AwsIsoB)),
            ("eu-isoe-west-1", Some(Partition::AwsIsoE)),
            ("us-isof-south-1", Some(Partition::AwsIsoF)),
            ("eusc-de-east-1", Some(Partition::AwsEusc)),
            ("lab", None),
            ("us-east-x", None),
            ("us-east", None),
        ];
        for (name, partition) in cases {
            let region: Region = name.parse().unwrap();
            assert_eq!(Partition::of_region(&region), partition, "{name}");
            assert!(Partition::ALL.into_iter().filter(|p| p.owns(&region)).count() <= 1, "{name}");
        }
    }

    #[test]
    fn a_global_region_is_one_of_its_own() {
        for partition in Partition::ALL {
            assert!(partition.owns(&partition.global_region().parse().unwrap()), "{partition}");
        }
    }
}
