//! How bad a finding is.

/// How bad: the bands of GuardDuty, one value in each. Sigma's `level` says which.
///
/// Source: GuardDuty user guide, "Severity levels of GuardDuty findings": low 1.0–3.9, medium 4.0–6.9, high 7.0–8.9,
/// critical 9.0–10.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Informational,
    /// Suspicious, and stopped or harmless by itself.
    Low,
    /// Departs from what machines do.
    Medium,
    /// A resource is compromised, as far as one can see.
    High,
    /// An attack is under way.
    Critical,
}

impl Severity {
    /// `severity` of a finding.
    #[must_use]
    pub const fn value(self) -> f64 {
        match self {
            Self::Informational => 1.0,
            Self::Low => 2.0,
            Self::Medium => 5.0,
            Self::High => 8.0,
            Self::Critical => 9.5,
        }
    }

    /// The severity of a `severity_id` of OCSF; what it does not know is of the middle.
    #[must_use]
    pub const fn of_ocsf(severity_id: u64) -> Self {
        match severity_id {
            1 => Self::Informational,
            2 => Self::Low,
            4 => Self::High,
            5 | 6 => Self::Critical,
            _ => Self::Medium,
        }
    }

    /// `severity_id` and `severity` of OCSF.
    #[must_use]
    pub const fn ocsf(self) -> (u8, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
            Self::Critical => (5, "Critical"),
        }
    }
}
