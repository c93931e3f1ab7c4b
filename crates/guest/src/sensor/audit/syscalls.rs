//! System calls by number, for the architectures that the product runs on.

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64` of `linux/audit.h`.
const X86_64: &str = "c000003e";
const AARCH64: &str = "c00000b7";

/// `asm/unistd_64.h`.
#[rustfmt::skip]
const ON_X86_64: &[(i64, &str)] = &[
    (2, "open"), (10, "mprotect"), (32, "dup"), (33, "dup2"), (42, "connect"), (43, "accept"), (49, "bind"), (50, "listen"),
    (59, "execve"), (76, "truncate"), (82, "rename"), (85, "creat"), (86, "link"), (87, "unlink"), (88, "symlink"),
    (90, "chmod"), (91, "fchmod"), (101, "ptrace"), (105, "setuid"), (113, "setreuid"), (117, "setresuid"),
    (155, "pivot_root"), (165, "mount"), (175, "init_module"), (257, "openat"), (263, "unlinkat"), (264, "renameat"),
    (265, "linkat"), (266, "symlinkat"), (268, "fchmodat"), (272, "unshare"), (288, "accept4"), (292, "dup3"),
    (304, "open_by_handle_at"), (308, "setns"), (310, "process_vm_readv"), (311, "process_vm_writev"),
    (313, "finit_module"), (316, "renameat2"), (319, "memfd_create"), (321, "bpf"), (322, "execveat"),
    (323, "userfaultfd"), (329, "pkey_mprotect"), (425, "io_uring_setup"), (429, "move_mount"),
    (437, "openat2"), (438, "pidfd_getfd"), (452, "fchmodat2"), (246, "kexec_load"), (320, "kexec_file_load"), (161, "chroot"),
];

/// `asm-generic/unistd.h`.
#[rustfmt::skip]
const ON_AARCH64: &[(i64, &str)] = &[
    (23, "dup"), (24, "dup3"), (35, "unlinkat"), (36, "symlinkat"), (37, "linkat"), (38, "renameat"), (40, "mount"),
    (41, "pivot_root"), (45, "truncate"), (51, "chroot"), (52, "fchmod"), (53, "fchmodat"), (56, "openat"), (97, "unshare"),
    (104, "kexec_load"), (105, "init_module"), (117, "ptrace"), (145, "setreuid"), (146, "setuid"), (147, "setresuid"),
    (200, "bind"), (201, "listen"), (202, "accept"), (203, "connect"), (221, "execve"), (226, "mprotect"), (242, "accept4"),
    (265, "open_by_handle_at"), (268, "setns"), (270, "process_vm_readv"), (271, "process_vm_writev"),
    (273, "finit_module"), (276, "renameat2"), (279, "memfd_create"), (280, "bpf"), (281, "execveat"),
    (282, "userfaultfd"), (288, "pkey_mprotect"), (429, "move_mount"), (437, "openat2"), (438, "pidfd_getfd"),
    (452, "fchmodat2"),
];

/// The name of a call; none if the architecture or the number says nothing here.
pub(crate) fn call_name(arch: &str, number: i64) -> Option<&'static str> {
    let arch = arch.strip_prefix("0x").unwrap_or(arch);
    let table: &[(i64, &str)] = match arch {
        X86_64 => ON_X86_64,
        AARCH64 => ON_AARCH64,
        _ => return None,
    };
    table.iter().find(|(own, _)| *own == number).map(|(_, name)| *name)
}
