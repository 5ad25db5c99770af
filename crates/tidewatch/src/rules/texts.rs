//! The texts of rules: which files there are, in which order they are loaded, and what is in them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tw_model::status::RuleFile;
use tw_rules::Diagnostic;

use super::load::{Loaded, digest};
use super::options::RuleOptions;
use crate::config::Config;

include!(concat!(env!("OUT_DIR"), "/pack.rs"));

/// Largest rule file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most bytes that all files have together.
const MAX_ALL: usize = 64 << 20;

/// Where rules lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Files, or folders of `*.yaml` and `*.yml` in the order of their names; none for the default pack.
    pub files: Vec<PathBuf>,
    /// A folder of more, loaded behind them. It may be missing or empty.
    pub dropins: Option<PathBuf>,
}

impl Places {
    /// Those that a configuration names.
    pub fn of(config: &Config) -> Self {
        Self { files: config.rules.files.clone(), dropins: config.rules.dropins.clone() }
    }

    /// Every file in the order of loading; none of the default pack.
    ///
    /// # Errors
    /// If a folder cannot be read, or one that was named has no rule file.
    pub fn list(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in &self.files {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            let inside = inside(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
            anyhow::ensure!(!inside.is_empty(), "the folder {} has no *.yaml or *.yml file", path.display());
            files.extend(inside);
        }
        // A folder that is named already is not loaded twice.
        let more = self.dropped_in()?.into_iter().filter(|file| !self.files.contains(file));
        let named = |file: &PathBuf| file.parent().is_some_and(|folder| self.files.iter().any(|path| path == folder));
        files.extend(more.filter(|file| !named(file)));
        Ok(files)
    }

    /// The files in the folder of drop-ins.
    fn dropped_in(&self) -> anyhow::Result<Vec<PathBuf>> {
        let Some(folder) = &self.dropins else { return Ok(Vec::new()) };
        match inside(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            found => found.with_context(|| format!("cannot read the folder {}", folder.display())),
        }
    }
}

/// The rule files of a folder in the order of their names. Hidden ones are passed over: editors leave such behind.
pub fn inside(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file of this name belongs to the default pack.
pub fn is_of_pack(name: &str) -> bool {
    PACK.iter().any(|(file, _)| *file == name)
}

/// A rule file as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// Path, or name within the default pack.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// All texts of a set of rules, in the order of loading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTexts {
    /// Where they came from, for people.
    pub source: String,
    /// The files.
    pub files: Vec<RuleText>,
    /// What is doubtful about the files themselves, in sentences.
    #[serde(skip)]
    pub doubts: Vec<String>,
}

impl RuleTexts {
    /// The default pack.
    pub fn pack() -> Self {
        let files = PACK.iter().map(|(name, text)| RuleText { name: (*name).to_owned(), text: (*text).to_owned() });
        Self { source: "the default pack".to_owned(), files: files.collect(), doubts: Vec::new() }
    }

    /// The tests of the default pack; none, if that is not what this is.
    pub fn pack_tests(&self) -> impl Iterator<Item = RuleText> {
        let is_pack =
            |(name, text): &(&str, &str)| self.files.iter().any(|file| file.name == *name && file.text == *text);
        let tests = if PACK.iter().all(is_pack) { PACK_TESTS } else { &[] };
        tests.iter().map(|(name, text)| RuleText { name: (*name).to_owned(), text: (*text).to_owned() })
    }

    /// Whether there is more than the default pack.
    pub fn has_more_than_pack(&self) -> bool {
        self.files.len() > PACK.len()
    }

    /// Reads what lies at `places`; the default pack if no file is named, and drop-ins behind either.
    ///
    /// # Errors
    /// If a file or folder cannot be read.
    pub fn read(places: &Places) -> anyhow::Result<Self> {
        match Self::read_most(places, read)? {
            (texts, unreadable) if unreadable.is_empty() => Ok(texts),
            (_, unreadable) => anyhow::bail!(sentences(&unreadable)),
        }
    }

    /// The same without the files that cannot be read, of which there is a diagnostic each. `read` reads a file.
    ///
    /// # Errors
    /// If a folder cannot be read, or all files together are too large.
    pub(super) fn read_most(
        places: &Places,
        read: impl Fn(&Path) -> anyhow::Result<String>,
    ) -> anyhow::Result<(Self, Vec<Diagnostic>)> {
        let mut texts = if places.files.is_empty() {
            Self::pack()
        } else {
            let named: Vec<_> = places.files.iter().map(|path| path.display().to_string()).collect();
            Self { source: named.join(", "), ..Self::default() }
        };
        let (mut bytes, mut unreadable) = (0, Vec::new());
        for file in places.list()? {
            let text = match read(&file) {
                Ok(text) => text,
                Err(error) => {
                    unreadable.push(Diagnostic::unreadable(file.display().to_string(), format!("{error:#}")));
                    continue;
                }
            };
            bytes += text.len();
            anyhow::ensure!(
                bytes <= MAX_ALL,
                "the rule files up to {} have more than the {MAX_ALL} bytes allowed",
                file.display()
            );
            let name = file.display().to_string();
            if is_blank(&text) {
                texts.doubts.push(format!("{name} has no rule, list or macro"));
            }
            texts.doubts.extend(doubt_of_writers(&file));
            texts.files.push(RuleText { name, text });
        }
        if let Some(folder) = &places.dropins
            && texts.files.iter().any(|file| Path::new(&file.name).parent() == Some(folder))
            && !places.files.contains(folder)
        {
            texts.source += &format!(" and {}", folder.display());
        }
        Ok((texts, unreadable))
    }

    /// Those of `others` behind these, each file once.
    pub(super) fn and(mut self, others: &Self) -> Self {
        let new = others.files.iter().filter(|other| self.files.iter().all(|file| file.name != other.name));
        let new: Vec<RuleText> = new.cloned().collect();
        self.files.extend(new);
        self.source += &format!(", {}", others.source);
        self.doubts.extend(others.doubts.iter().cloned());
        self
    }

    /// Checks and compiles them.
    pub fn load(&self, options: &RuleOptions) -> Loaded {
        let mut loader = options.loader();
        let mut files = Vec::new();
        for RuleText { name, text } in &self.files {
            files.push(RuleFile { name: name.clone(), digest: digest(text.as_bytes()) });
            loader = loader.add_file(name.as_str(), text.as_str());
        }
        let (rules, diagnostics) = loader.finish();
        let doubts = self.doubts.iter().cloned().chain(options.doubts(&rules)).collect();
        Loaded { rules, diagnostics, source: self.source.clone(), files, doubts, options: options.clone() }
    }
}

/// Whether a file holds nothing but comments and the marks of documents.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || matches!(line, "---" | "..."))
}

/// A doubt if everybody can change a file of rules.
fn doubt_of_writers(file: &Path) -> Option<String> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    let shown = file.display();
    (mode & 0o002 != 0).then(|| {
        format!(
            "{shown} can be changed by everybody (mode {mode:04o}), who can so switch off the watch: chmod o-w {shown}"
        )
    })
}

/// What is wrong with files that cannot be read, in one line.
pub(super) fn sentences(unreadable: &[Diagnostic]) -> String {
    unreadable.iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Reads a rule file that a person named: `-` is standard input.
pub(super) fn read_named(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        return text(std::io::stdin().lock(), "standard input");
    }
    read(file)
}

pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let failed = || format!("cannot read the rule file {shown}");
    // Opened without waiting, so that a pipe in its place cannot hold us up.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let opened = File::options().read(true).custom_flags(flags).open(file).with_context(failed)?;
    anyhow::ensure!(opened.metadata().with_context(failed)?.is_file(), "{shown} is no file: name a file of rules");
    text(opened, &shown.to_string())
}

fn text(source: impl std::io::Read, shown: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let failed = || format!("cannot read the rule file {shown}");
    source.take(MAX_FILE + 1).read_to_end(&mut bytes).with_context(failed)?;
    anyhow::ensure!(bytes.len() as u64 <= MAX_FILE, "the rule file {shown} has more than the {MAX_FILE} bytes allowed");
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{shown}:{line}: not UTF-8 text: save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "- rule: NAME\n  desc: d\n  condition: evt.type = chroot\n  output: o\n  priority: INFO\n";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidewatch-texts-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("rules.d")).unwrap();
            Self(path)
        }

        fn rule(&self, file: &str, name: &str) -> PathBuf {
            let path = self.0.join(file);
            std::fs::write(&path, RULE.replace("NAME", name)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn names(texts: &RuleTexts) -> Vec<String> {
        texts.load(&RuleOptions::default()).rules.rules().iter().map(|rule| rule.name.clone()).collect()
    }

    #[test]
    fn drop_ins_come_behind_the_files_and_hidden_ones_not_at_all() {
        let folder = Folder::new("order");
        let named = folder.rule("z.yaml", "named");
        folder.rule("rules.d/20.yml", "second");
        folder.rule("rules.d/10.yaml", "first");
        folder.rule("rules.d/.#10.yaml", "of an editor");
        folder.rule("rules.d/30.yaml.bak", "old");
        let places = Places { files: vec![named.clone()], dropins: Some(folder.0.join("rules.d")) };
        let texts = RuleTexts::read(&places).unwrap();
        assert_eq!(names(&texts), ["named", "first", "second"]);
        assert_eq!(texts.source, format!("{} and {}", named.display(), folder.0.join("rules.d").display()));
        // One that is named itself is not loaded a second time.
        let places = Places { files: vec![folder.0.join("rules.d")], ..places };
        assert_eq!(names(&RuleTexts::read(&places).unwrap()), ["first", "second"]);
    }

    #[test]
    fn drop_ins_override_the_pack_and_may_be_missing() {
        let folder = Folder::new("pack");
        let pack = names(&RuleTexts::pack());
        let places = Places { files: Vec::new(), dropins: Some(folder.0.join("rules.d")) };
        let texts = RuleTexts::read(&places).unwrap();
        assert_eq!((names(&texts), texts.source.as_str()), (pack.clone(), "the default pack"));
        let off = format!("- rule: {}\n  enabled: false\n  override: {{enabled: replace}}\n", pack[0]);
        std::fs::write(folder.0.join("rules.d/off.yaml"), off).unwrap();
        let loaded = RuleTexts::read(&places).unwrap().load(&RuleOptions::default());
        assert!(!loaded.rules.rules()[0].enabled && loaded.rules.rules()[1].enabled, "{:?}", loaded.diagnostics);
        let absent = Places { dropins: Some("/nowhere/rules.d".into()), ..places };
        assert_eq!(names(&RuleTexts::read(&absent).unwrap()), pack);
    }

    #[test]
    fn a_named_folder_must_have_rules() {
        let folder = Folder::new("empty");
        let places = Places { files: vec![folder.0.join("rules.d")], dropins: None };
        let error = RuleTexts::read(&places).unwrap_err().to_string();
        assert!(error.contains("has no *.yaml or *.yml file"), "{error}");
    }

    #[test]
    fn files_that_say_nothing_or_that_everybody_can_change_are_doubtful() {
        let folder = Folder::new("doubts");
        let mine = folder.rule("mine.yaml", "mine");
        let empty = folder.0.join("empty.yaml");
        std::fs::write(&empty, "# nothing yet\n").unwrap();
        let places = Places { files: vec![mine.clone(), empty], dropins: None };
        std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o666)).unwrap();
        let doubts = RuleTexts::read(&places).unwrap().load(&RuleOptions::default()).doubts;
        assert_eq!(doubts.len(), 2, "{doubts:?}");
        assert!(doubts[0].contains("mine.yaml can be changed by everybody (mode 0666)"), "{doubts:?}");
        assert!(doubts[1].ends_with("empty.yaml has no rule, list or macro"), "{doubts:?}");
    }

    #[test]
    fn what_is_no_file_or_too_large_or_no_text_is_told_and_holds_nobody_up() {
        let folder = Folder::new("hostile");
        let say = |name: &str| read(&folder.0.join(name)).unwrap_err().to_string();
        let made = std::process::Command::new("mkfifo").arg(folder.0.join("pipe.yaml")).status().unwrap();
        assert!(made.success() && say("pipe.yaml").contains("is no file"));
        assert!(say("rules.d").contains("is no file"));
        assert!(say("absent").contains("cannot read the rule file"));
        std::fs::write(folder.0.join("large.yaml"), vec![b'#'; (MAX_FILE + 1) as usize]).unwrap();
        assert!(say("large.yaml").contains("more than the"));
        std::fs::write(folder.0.join("latin.yaml"), b"# a\n# \xe9\n").unwrap();
        assert!(say("latin.yaml").contains("latin.yaml:2: not UTF-8"));
    }

    #[test]
    fn a_file_of_comments_is_blank() {
        assert!(is_blank("") && is_blank("# nothing yet\n---\n\n"));
        assert!(!is_blank("# x\n- list: a\n  items: []\n"));
    }
}
