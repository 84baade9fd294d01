//! What the kernel tells about a process.

/// A field of `/proc/PID/FILE` that the kernel gives in kB, in bytes: `("status", "VmRSS:")`, `("smaps_rollup", "Pss:")`.
/// `None` for a process that is gone.
pub fn bytes(pid: u32, file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Open file descriptors.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
