//! Macros of Falco's own rule files that people know by heart, and what stands for them here.

/// Name, and what to write instead.
static KNOWN: &[(&str, Instead)] = &[
    ("spawned_process", Instead::Macro("program_started")),
    ("container", Instead::Macro("in_container")),
    ("open_read", Instead::Macro("opened_to_read")),
    ("open_write", Instead::Macro("opened_to_write")),
    ("shell_procs", Instead::Macro("a_shell")),
    ("chmod", Instead::Macro("mode_changed")),
    ("kernel_module_load", Instead::Macro("loads_kernel_code")),
    ("container_started", Instead::Macro("container_started")),
    ("package_mgmt_procs", Instead::Condition("proc.name in (package_managers)")),
    ("rename", Instead::Condition("evt.type in (rename, renameat, renameat2)")),
    ("interactive", Instead::Condition("proc.tty != 0")),
    ("never_true", Instead::Condition("evt.num = 0")),
    ("always_true", Instead::Condition("evt.num >= 0")),
    ("proc_name_exists", Instead::Condition("proc.name exists")),
];

enum Instead {
    /// A macro of the default pack.
    Macro(&'static str),
    /// A condition.
    Condition(&'static str),
}

/// What to write instead of a well-known macro that no file defines.
pub(super) fn instead_of(name: &str) -> Option<String> {
    let (_, instead) = KNOWN.iter().find(|(known, _)| *known == name)?;
    Some(match instead {
        Instead::Macro(ours) if *ours == name => format!("the default pack has it, too: load `{ours}` with it"),
        Instead::Macro(ours) => format!("the default pack has `{ours}` for it"),
        Instead::Condition(condition) => format!("write `{condition}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{load, rule_with};

    #[test]
    fn what_stands_for_falcos_macros_exists() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");
        let mut loader = crate::Loader::new();
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
            loader = loader.add_file(file.display().to_string(), std::fs::read_to_string(file).unwrap());
        }
        let (pack, _) = loader.finish();
        for (name, instead) in KNOWN {
            match instead {
                Instead::Macro(ours) => assert!(pack.macro_named(ours).is_some(), "{ours}"),
                Instead::Condition(condition) => {
                    let list = "- list: package_managers\n  items: [apk]\n";
                    let (rules, diagnostics) = load(&format!("{list}{}", rule_with(condition)));
                    assert_eq!(rules.len(), 1, "{name}: {diagnostics:?}");
                }
            }
        }
    }

    #[test]
    fn the_help_names_it() {
        let help = |condition: &str| load(&rule_with(condition)).1[0].help.clone().unwrap_or_default();
        assert!(help("spawned_process and proc.name = x").ends_with("the default pack has `program_started` for it"));
        assert!(help("interactive").ends_with("write `proc.tty != 0`"));
        assert!(help("no_such").starts_with("a field's name has a dot"));
    }
}
