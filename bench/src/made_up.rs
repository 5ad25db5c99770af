//! Rules in any number, to see what their number costs.

use std::fmt::Write as _;

/// So many rules of the shapes that operators write, each about things of its own.
pub fn made_up(count: usize) -> String {
    let mut yaml = String::new();
    for i in 0..count {
        let condition = match i % 8 {
            0 => format!(
                "evt.type in (open, openat, openat2) and evt.is_open_write = true and fd.name startswith /srv/app{i}/ \
                 and not proc.name in (app{i}, deploy{i})"
            ),
            1 => format!(
                "evt.type in (open, openat, openat2) and evt.is_open_read = true and \
                 fd.name in (/etc/app{i}/secret, /var/lib/app{i}/key) and not proc.pname in (app{i})"
            ),
            2 => format!(
                "evt.type in (execve, execveat) and proc.name in (tool{i}, kit{i}) and not proc.aname in (ci{i})"
            ),
            3 => format!("evt.type in (execve, execveat) and proc.cmdline contains \"--plugin{i} \""),
            4 => format!("evt.type = connect and fd.sip = 10.{}.{}.7 and fd.sport = {}", i % 200, i / 200, 1000 + i),
            5 => format!(
                "evt.type in (unlink, unlinkat, rename, renameat, renameat2) and fs.path.name endswith .kept{i} \
                 and user.uid != 0"
            ),
            6 => format!(
                "evt.type in (execve, execveat) and container.image.repository endswith /app{i} and \
                 not proc.exepath startswith /usr/bin/"
            ),
            _ => format!("evt.type in (open, openat) and fd.directory = /opt/app{i} and fd.filename endswith .so{i}"),
        };
        let _ = writeln!(
            yaml,
            "- rule: Made Up {i}\n  desc: d\n  output: o %proc.name\n  priority: INFO\n  condition: >\n    {condition}"
        );
    }
    yaml
}
