//! Memory that the start took and that is not needed any more, given back to the kernel.

use rustix::mm::Advice;

/// Gives back what the heap has free, and the pages of the program and its libraries, of which the start ran and read
/// much that is never needed again. What is comes back by itself, from the kernel's cache of the file. Costs some
/// milliseconds: not for between two events.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches what nobody has allocated, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, len) in unwritten(&smaps) {
        // SAFETY: a private mapping of a file that may not be written to and never was: there is nothing in it but what
        // the file has.
        if let Err(error) = unsafe { rustix::mm::madvise(start as *mut _, len, Advice::LinuxDontNeed) } {
            tracing::debug!("a file stays mapped: {error}");
        }
    }
}

/// Start and length of private mappings of files that hold nothing but the file's own bytes, as `/proc/PID/smaps` has it:
/// not those that were written to before they were protected, as a program's table of addresses is.
fn unwritten(smaps: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut range = None;
    smaps.lines().filter_map(move |line| {
        if let Some(found) = header(line) {
            range = found;
        } else if let Some(size) = line.strip_prefix("Anonymous:") {
            range = range.filter(|_| size.trim() == "0 kB");
        } else if let Some(size) = line.strip_prefix("Swap:") {
            // What was written to may lie in swap. This line comes behind the other, in kernels that can swap.
            return range.take().filter(|_| size.trim() == "0 kB");
        }
        None
    })
}

/// The first line of a mapping: its range if it is one of a file that cannot be written to. `None` for other lines.
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    // Rights, offset, device, inode, and the file behind some blanks.
    let mut words = rest.splitn(5, ' ');
    let rights = words.next()?;
    let file = words.nth(3).unwrap_or_default().trim_start();
    let plain = rights.ends_with('p') && !rights.contains('w') && file.starts_with('/');
    Some(plain.then_some((start, end.checked_sub(start)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55be94492000-55be94c05000 r--p 00000000 fe:00 10144140                   /opt/tide watch
Rss:                4096 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
55be94c05000-55be96002000 r-xp 00772000 fe:00 10144140                   /opt/tide watch
Anonymous:             0 kB
Swap:                  0 kB
55be96002000-55be96003000 r--p 01b6d000 fe:00 10144140                   /opt/tide watch
Anonymous:             0 kB
Swap:                 12 kB
55be96003000-55be960cd000 r--p 01b6e000 fe:00 10144140                   /opt/tide watch
Anonymous:           812 kB
Swap:                  0 kB
55be960cd000-55be960d6000 rw-p 01c38000 fe:00 10144140                   /opt/tide watch
Anonymous:             0 kB
Swap:                  0 kB
7f10aa000000-7f10aa100000 r--s 00028000 fe:00 2097341                    /var/lib/shared
Anonymous:             0 kB
Swap:                  0 kB
7f10ab000000-7f10ab001000 r-xp 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
7f10ac000000-7f10ac001000 r--p 00000000 00:0e 1                          anon_inode:bpf-map
Anonymous:             0 kB
Swap:                  0 kB
7f10ad000000-7f10ad001000 r-xp 00000000 fe:00 2097342                    /usr/lib/libc.so.6
";

    #[test]
    fn nothing_is_given_back_but_what_the_file_has() {
        let found: Vec<_> = unwritten(SMAPS).collect();
        assert_eq!(found, [(0x55be_9449_2000, 0x77_3000), (0x55be_94c0_5000, 0x13f_d000)]);
        assert_eq!(unwritten("55be94c05000-").count(), 0);
    }

    /// Resident kilobytes of this process, of a kind.
    fn resident(what: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_free_leaves_the_process_and_the_program_runs_on() {
        // Each free piece has whole pages in it.
        let (kept, free): (Vec<_>, Vec<_>) = (0..2000).map(|i| (vec![i as u8; 64], vec![i as u8; 20_000])).unzip();
        drop(free);
        let before = resident("RssAnon:");
        give_back();
        let after = resident("RssAnon:");
        assert!(after + 20_000 < before, "{before} kB before, {after} kB after");
        assert!(kept.iter().enumerate().all(|(i, bytes)| *bytes == vec![i as u8; 64]));
    }
}
