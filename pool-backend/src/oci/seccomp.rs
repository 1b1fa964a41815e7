//! Which system calls a container under runc may not make. gVisor needs none of this: its
//! containers' calls never reach the host's kernel.
//!
//! A list of refusals rather than of permissions: with no capability and no new privilege most
//! dangerous calls fail anyway, so what matters here is kernel surface that needs no privilege.

use serde_json::{Value, json};

const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "SCMP_ARCH_AARCH64"
} else {
    "SCMP_ARCH_X86_64"
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Refused outright.
const REFUSED: &[&str] = &[
    // Mounts and roots, old and new interface.
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "mount_setattr",
    "statmount",
    "listmount",
    // Entering or making namespaces.
    "setns",
    "unshare",
    // Code in the kernel, another kernel, a stopped kernel.
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "query_module",
    "get_kernel_syms",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "bpf",
    // Surfaces that were the way out too often.
    "userfaultfd",
    "perf_event_open",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "add_key",
    "keyctl",
    "request_key",
    "lookup_dcookie",
    "fanotify_init",
    "vmsplice",
    // Files by handle: past every mount.
    "open_by_handle_at",
    // The machine's clock, accounting, swap, quotas, names, log.
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "stime",
    "acct",
    "swapon",
    "swapoff",
    "quotactl",
    "quotactl_fd",
    "sethostname",
    "setdomainname",
    "syslog",
    "vhangup",
    // Hardware.
    "iopl",
    "ioperm",
    "pciconfig_read",
    "pciconfig_write",
    "pciconfig_iobase",
    // Other processes' memory placement.
    "move_pages",
    "migrate_pages",
    "mbind",
    "set_mempolicy",
    "set_mempolicy_home_node",
    // Relics.
    "_sysctl",
    "sysfs",
    "ustat",
    "uselib",
    "nfsservctl",
    "modify_ldt",
    "vm86",
    "vm86old",
    "kcmp",
];

/// Flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: &[u64] = &[
    0x0002_0000, // mount
    0x0200_0000, // cgroup
    0x0400_0000, // uts
    0x0800_0000, // ipc
    0x1000_0000, // user
    0x2000_0000, // pid
    0x4000_0000, // net
];

/// Address families that containers have a use for are unix, inet, inet6 and netlink; the rest is
/// kernel surface, and some (vsock) know no network namespaces.
const REFUSED_FAMILIES: &[u64] = &[3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];
/// This one and all after it: packet, vsock, alg, xdp and what comes next.
const REFUSED_FAMILIES_FROM: u64 = 17;

/// The filter in OCI's words.
pub fn filter() -> Value {
    let mut rules = vec![
        json!({ "names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }),
        // Its flags are behind a pointer that no filter can follow; libc falls back to `clone`.
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }),
        socket_family(REFUSED_FAMILIES_FROM, "SCMP_CMP_GE"),
    ];
    rules.extend(
        REFUSED_FAMILIES
            .iter()
            .map(|family| socket_family(*family, "SCMP_CMP_EQ")),
    );
    rules.extend(NAMESPACE_FLAGS.iter().map(|flag| {
        json!({
            "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM,
            "args": [{
                "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ",
            }],
        })
    }));
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        // The machine's own only: calls of 32-bit programs, which pass numbers and arguments in
        // other ways, end the program.
        "architectures": [ARCHITECTURE],
        "syscalls": rules,
    })
}

fn socket_family(family: u64, comparison: &str) -> Value {
    json!({
        "names": ["socket", "socketpair"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM,
        "args": [{ "index": 0, "value": family, "op": comparison }],
    })
}
