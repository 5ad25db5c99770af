//! What works and what does not, as values that can be shown.

/// One place in the kernel that the sensor hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name, such as `tp_btf/sys_exit`.
    pub name: &'static str,
    /// What it is for.
    pub serves: &'static str,
    /// Why it is missing; `None` if it works.
    pub problem: Option<String>,
    /// What stands in for it where it is missing, and what that leaves out.
    pub instead: Option<&'static str>,
}

impl Hook {
    /// What it means that this is missing.
    pub fn consequence(&self) -> String {
        self.instead.map_or_else(|| format!("no {}", self.serves), str::to_owned)
    }
}

/// State of the sensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// All hooks.
    pub hooks: Vec<Hook>,
}

impl Health {
    /// Hooks that do not work.
    pub fn problems(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| hook.problem.is_some())
    }

    /// Number of hooks that work.
    pub fn working(&self) -> usize {
        self.hooks.len() - self.problems().count()
    }
}
