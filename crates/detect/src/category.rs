//! Which rules are about which events: Sigma's `logsource` beside OCSF's classes.

use serde_json::Value;

/// A category of `logsource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// A program was started.
    ProcessCreation,
    /// A process has ended.
    ProcessTermination,
    /// A process traces, reads or changes another.
    ProcessAccess,
    /// A process writes into another.
    ProcessInjection,
    /// A process has another user. (Ours.)
    ProcessSetuid,
    /// A file was opened.
    FileAccess,
    /// A file was made or written.
    FileEvent,
    /// A file was given other attributes.
    FileChange,
    /// A file was removed.
    FileDelete,
    /// A file has another name.
    FileRename,
    /// A file system was mounted. (Ours.)
    FileMount,
    /// A module was loaded into the kernel.
    DriverLoad,
    /// A library was loaded.
    ImageLoad,
    /// A system call of note. (Ours.)
    KernelCall,
    /// Memory has other rights. (Ours.)
    MemoryChange,
    /// A connection.
    NetworkConnection,
    /// A port was opened. (Ours.)
    NetworkListen,
    /// A name was looked up.
    DnsQuery,
    /// A finding of another tool. (Ours.)
    DetectionFinding,
}

impl Category {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::ProcessCreation,
        Self::ProcessTermination,
        Self::ProcessAccess,
        Self::ProcessInjection,
        Self::ProcessSetuid,
        Self::FileAccess,
        Self::FileEvent,
        Self::FileChange,
        Self::FileDelete,
        Self::FileRename,
        Self::FileMount,
        Self::DriverLoad,
        Self::ImageLoad,
        Self::KernelCall,
        Self::MemoryChange,
        Self::NetworkConnection,
        Self::NetworkListen,
        Self::DnsQuery,
        Self::DetectionFinding,
    ];

    /// Its name in a rule.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessCreation => "process_creation",
            Self::ProcessTermination => "process_termination",
            Self::ProcessAccess => "process_access",
            Self::ProcessInjection => "process_injection",
            Self::ProcessSetuid => "process_setuid",
            Self::FileAccess => "file_access",
            Self::FileEvent => "file_event",
            Self::FileChange => "file_change",
            Self::FileDelete => "file_delete",
            Self::FileRename => "file_rename",
            Self::FileMount => "file_mount",
            Self::DriverLoad => "driver_load",
            Self::ImageLoad => "image_load",
            Self::KernelCall => "kernel_call",
            Self::MemoryChange => "memory_change",
            Self::NetworkConnection => "network_connection",
            Self::NetworkListen => "network_listen",
            Self::DnsQuery => "dns_query",
            Self::DetectionFinding => "detection_finding",
        }
    }

    /// The category that a rule names, if events here have it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.name().eq_ignore_ascii_case(name))
    }

    /// What events of a class can be: to be asked before one is parsed.
    #[must_use]
    pub fn of_class(class: u32) -> &'static [Self] {
        match class {
            1007 => &[
                Self::ProcessCreation,
                Self::ProcessTermination,
                Self::ProcessAccess,
                Self::ProcessInjection,
                Self::ProcessSetuid,
            ],
            1001 => &[
                Self::FileAccess,
                Self::FileEvent,
                Self::FileChange,
                Self::FileDelete,
                Self::FileRename,
                Self::FileMount,
            ],
            4001 => &[Self::NetworkConnection, Self::NetworkListen],
            // One category has all their activities, whichever is asked for.
            _ => Self::of(class as u64, 1, false),
        }
    }

    /// What an event is, by class and activity. A file that was opened to write counts as written: what follows is not told.
    pub(crate) const fn of(class: u64, activity: u64, opened_to_write: bool) -> &'static [Self] {
        match (class, activity) {
            (1007, 1) => &[Self::ProcessCreation],
            (1007, 2) => &[Self::ProcessTermination],
            (1007, 3) => &[Self::ProcessAccess],
            (1007, 4) => &[Self::ProcessInjection, Self::ProcessAccess],
            (1007, 5) => &[Self::ProcessSetuid],
            (1001, 1 | 3) => &[Self::FileEvent],
            (1001, 4) => &[Self::FileDelete],
            (1001, 5) => &[Self::FileRename, Self::FileEvent],
            (1001, 6 | 7) => &[Self::FileChange],
            (1001, 12) => &[Self::FileMount],
            (1001, 2) => &[Self::FileAccess],
            (1001, 14) if opened_to_write => &[Self::FileAccess, Self::FileEvent],
            (1001, 14) => &[Self::FileAccess],
            (1002, 1) => &[Self::DriverLoad],
            (1005, 1) => &[Self::ImageLoad],
            (1003, _) => &[Self::KernelCall],
            (1004, _) => &[Self::MemoryChange],
            (4001, 7) => &[Self::NetworkListen],
            (4001, _) => &[Self::NetworkConnection],
            (4003, _) => &[Self::DnsQuery],
            (2004, _) => &[Self::DetectionFinding],
            _ => &[],
        }
    }
}

/// A product of `logsource`: what the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// Linux, which is also what is assumed of a machine that does not say.
    Linux,
    /// Windows.
    Windows,
    /// macOS.
    MacOs,
}

impl Product {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Windows, Self::MacOs];

    /// Its name in a rule.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::MacOs => "macos",
        }
    }

    /// The product that a rule names, if machines here can have it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name().eq_ignore_ascii_case(name))
    }

    /// Source: OCSF 1.3, `objects/os.json`, `type_id`.
    pub(crate) fn of(event: &Value) -> Self {
        let os = event.get("device").and_then(|device| device.get("os")).and_then(|os| os.get("type_id"));
        match os.and_then(Value::as_u64) {
            Some(100 | 101) => Self::Windows,
            Some(300) => Self::MacOs,
            _ => Self::Linux,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Category, Product};
    use serde_json::json;

    #[test]
    fn every_category_is_at_its_number_and_has_a_name_of_its_own() {
        for (at, category) in Category::ALL.into_iter().enumerate() {
            assert_eq!(category as usize, at);
            assert_eq!(Category::named(category.name()), Some(category));
        }
        assert_eq!(Category::named("Process_Creation"), Some(Category::ProcessCreation));
        assert_eq!(Category::named("webserver"), None);
    }

    #[test]
    fn a_class_has_the_categories_of_all_its_activities() {
        for class in 0..10_000_u32 {
            for activity in 0..100 {
                for writes in [false, true] {
                    for category in Category::of(u64::from(class), activity, writes) {
                        assert!(Category::of_class(class).contains(category), "{class} {activity} {category:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_opened_to_write_is_written() {
        assert_eq!(Category::of(1001, 14, false), [Category::FileAccess]);
        assert_eq!(Category::of(1001, 14, true), [Category::FileAccess, Category::FileEvent]);
    }

    #[test]
    fn a_machine_that_does_not_say_runs_linux() {
        for (event, product) in [
            (json!({}), Product::Linux),
            (json!({ "device": { "os": { "type_id": 200 } } }), Product::Linux),
            (json!({ "device": { "os": { "type_id": 100 } } }), Product::Windows),
            (json!({ "device": { "os": { "type_id": 300 } } }), Product::MacOs),
        ] {
            assert_eq!(Product::of(&event), product);
        }
    }
}
