//! Rules and settings that change while the agent runs. The new set is made beside the old one, by a thread of its own,
//! and takes its place between two events; if it is broken the old one stays.
//!
//! Whoever asks for a reload gets settings and rules read anew. Rule files that changed by themselves are read with the
//! settings that are in force: a setting is taken when somebody says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

use tw_detect::{Detector, Notice};
use tw_model::Priority;
use tw_model::finding::Shown;
use tw_model::link::Call;
use tw_model::status::{RuleFile, RulesStatus, SpoolStatus};
use tw_report::spool::SpoolView;
use tw_report::uplink::Asked;
use tw_sensor::Source;

use super::Agent;
use super::watch::{self, Watched};
use super::{first_rules, last_good, self_view};
use crate::config::{Config, Sources};
use crate::log::LogLevel;
use crate::rules::{self, Refusal};

/// Most who wait for a reload.
const WAITING: usize = 64;

/// Where whoever asked waits for a sentence.
type Answer = SyncSender<Result<String, String>>;

struct Fresh {
    config: Config,
    /// Whether the settings were read anew too.
    all: bool,
    detector: Detector,
    status: RulesStatus,
}

/// A reload that is over.
struct Done {
    outcome: Result<Fresh, Refusal>,
    /// The rule files as they were before they were read, if the settings say which.
    watched: Option<Watched>,
    waiting: Vec<Answer>,
}

/// The agent's ear for reloads.
pub(super) struct Reload {
    sources: Sources,
    /// Set by SIGHUP.
    wanted: Arc<AtomicBool>,
    /// Set when rule files changed.
    changed: Arc<AtomicBool>,
    /// Takes what is to be watched for changes; none if nothing watches.
    watch: Option<Sender<Watched>>,
    calls: Receiver<Asked>,
    /// Who asked while a reload was under way.
    waiting: Vec<Answer>,
    done: Receiver<Done>,
    send_done: SyncSender<Done>,
    under_way: bool,
    level: LogLevel,
    /// A view, since whoever has the spool may wait for the disk.
    spool: Option<SpoolView>,
    /// Findings that were given up before this start.
    dropped_before: u64,
}

impl Reload {
    pub(super) fn new(
        sources: Sources,
        wanted: Arc<AtomicBool>,
        calls: Receiver<Asked>,
        level: LogLevel,
        spool: Option<SpoolView>,
        watched: Watched,
    ) -> Self {
        let (send_done, done) = sync_channel(1);
        let dropped_before = spool.as_ref().map_or(0, |spool| dropped(&spool.status()));
        let changed = Arc::<AtomicBool>::default();
        let watch = watch::start(watched, Arc::clone(&changed))
            .map_err(|error| tracing::error!("changes of rule files are not seen, no thread for it: {error}"))
            .ok();
        Self {
            sources,
            wanted,
            changed,
            watch,
            calls,
            waiting: Vec::new(),
            done,
            send_done,
            under_way: false,
            level,
            spool,
            dropped_before,
        }
    }

    /// State of the spool, if there is one.
    pub(super) fn spool_status(&self) -> Option<SpoolStatus> {
        self.spool.as_ref().map(SpoolView::status)
    }

    /// Findings that the spool gave up since this start; its own count goes back to when it was created.
    pub(super) fn dropped_since_start(&self, spool: &SpoolStatus) -> u64 {
        dropped(spool).saturating_sub(self.dropped_before)
    }

    /// Starts a reload if somebody wants one and none is under way. `config` is what is in force.
    fn begin_if_wanted(&mut self, config: &Config) {
        while let Ok(asked) = self.calls.try_recv() {
            match asked.call {
                // Whoever asked may have gone.
                Call::Reload if self.waiting.len() >= WAITING => {
                    let _ = asked.answer.try_send(Err("too many wait for a reload: try again in a moment".into()));
                }
                Call::Reload => self.waiting.push(asked.answer),
            }
        }
        if self.under_way {
            return;
        }
        if self.wanted.swap(false, Ordering::Relaxed) || !self.waiting.is_empty() {
            self.changed.store(false, Ordering::Relaxed);
            self.begin(None);
        } else if self.changed.swap(false, Ordering::Relaxed) {
            tracing::info!("rule files have changed and are loaded anew");
            self.begin(Some(config.clone()));
        }
    }

    /// Reads rules anew, with these settings, or settings too.
    fn begin(&mut self, settings: Option<Config>) {
        self.under_way = true;
        let (sources, done) = (self.sources.clone(), self.send_done.clone());
        let waiting = std::mem::take(&mut self.waiting);
        let started = std::thread::Builder::new().name("reload".into()).spawn(move || {
            let (outcome, watched) = load(&sources, settings);
            // The agent takes it, or is gone.
            let _ = done.send(Done { outcome, watched, waiting });
        });
        if let Err(error) = started {
            self.under_way = false;
            tracing::error!("cannot load anew: {error}");
        }
    }
}

fn dropped(spool: &SpoolStatus) -> u64 {
    spool.lanes.iter().map(|lane| lane.dropped).sum()
}

fn load(sources: &Sources, settings: Option<Config>) -> (Result<Fresh, Refusal>, Option<Watched>) {
    let all = settings.is_none();
    let config = match settings.map_or_else(|| Config::load(sources).map(|loaded| loaded.config), Ok) {
        Ok(config) => config,
        Err(errors) => return (Err(Refusal::new(errors.to_string())), None),
    };
    let watched = Watched::now(&config);
    let outcome = rules::take(&config).map(|(texts, loaded)| {
        loaded.tell_doubts();
        let mut status = loaded.status();
        // Here, since the agent does not wait for a disk.
        status.copy_error = last_good::keep(&config, texts).err().map(|error| error.to_string());
        Fresh { config, detector: Detector::new(loaded.rules), status, all }
    });
    (outcome, Some(watched))
}

impl Agent {
    /// Starts a reload if one is wanted, and takes what one brought. Whoever asked for it hears of it once the state
    /// that is shown agrees.
    pub(super) fn take_reloaded(&mut self, sensor: &dyn Source) {
        self.reload.begin_if_wanted(&self.config);
        let Ok(Done { outcome, watched, waiting }) = self.reload.done.try_recv() else { return };
        self.reload.under_way = false;
        if let (Some(watch), Some(watched)) = (&self.reload.watch, watched) {
            // A watch that is gone sees nothing, as before.
            let _ = watch.send(watched);
        }
        let said = match outcome {
            Ok(fresh) => Ok(self.take_over(fresh)),
            Err(refusal) => {
                self.keep_the_old(&refusal);
                Err(refusal.detail().to_owned())
            }
        };
        self.publish(sensor, self_view::event_counts(sensor));
        for answer in waiting {
            // Whoever asked may have gone.
            let _ = answer.try_send(said.clone());
        }
    }

    fn take_over(&mut self, fresh: Fresh) -> String {
        let changes = self.config.changes(&fresh.config);
        let later: Vec<&str> = changes.iter().filter(|change| !change.live).map(|change| change.key.as_str()).collect();
        let unchanged = is_same(&self.rules, &fresh.status);
        let digest = fresh.status.digest.get(..12).unwrap_or_default();
        let mut said = format!(
            "{} in force, digest {digest}{}",
            crate::screen::count(fresh.status.enabled as usize, "rule"),
            if unchanged { " (unchanged)" } else { "" }
        );
        if !later.is_empty() {
            said += &format!("; these changes wait for a restart: {}", later.join(", "));
        }
        let old = self.detector.replace_by(fresh.detector);
        // Thousands of rules take a while to go: not here.
        let _ = std::thread::Builder::new().name("old-rules".into()).spawn(move || drop(old));
        self.costs.rules_changed();
        self.mute = None;
        let before = std::mem::replace(&mut self.rules, fresh.status);
        if let Err(error) = self.reload.level.set(&fresh.config.log.level) {
            tracing::warn!("{error:#}");
        }
        if let Some(spool) = &self.reload.spool {
            spool.set_max_bytes(fresh.config.spool.max_mib << 20);
        }
        self.config.take_live(&fresh.config);
        if fresh.all {
            self.settings_error = None;
        }
        if let Some(tape) = &mut self.tape
            && (tape.reconfigure(&self.config) || !unchanged)
        {
            // A segment names what was in force for all of it.
            tape.begin(&mut self.world, &self.node, &self.rules.digest);
        }
        tracing::info!("loaded anew: {said}");
        if !unchanged {
            self.say(rules_changed(&before, &self.rules));
        }
        said
    }

    fn keep_the_old(&mut self, refusal: &Refusal) {
        tracing::error!("not loaded anew, everything stays as it was: {}", refusal.detail());
        self.rules.last_error = Some(refusal.detail().to_owned());
        self.say(Notice {
            name: "reload failed",
            priority: Priority::Error,
            message: format!("rules and settings were not loaded anew: {refusal}"),
            why: "What was changed is not in force. The watch goes on with what was in force before.",
            advice: first_rules::REMEDY,
            fields: first_rules::fields(refusal),
        });
    }
}

/// Whether the same rules are in force, in the same way.
fn is_same(before: &RulesStatus, now: &RulesStatus) -> bool {
    before.digest == now.digest && before.options == now.options
}

/// The alert that other rules are in force: whoever wants to go unseen changes them.
fn rules_changed(before: &RulesStatus, now: &RulesStatus) -> Notice<'static> {
    let files = changed(before, now);
    let fields = [("rules.digest", &now.digest), ("rules.digest_before", &before.digest), ("rules.files", &files)];
    Notice {
        name: "rules changed",
        priority: Priority::Notice,
        message: format!(
            "other rules are in force: {} from {}; changed: {files}",
            crate::screen::count(now.enabled as usize, "rule"),
            now.source
        ),
        why: "From now on other things are found. Whoever wants to go unseen changes the rules.",
        advice: "If nobody of yours changed them, look who wrote to these files, and compare them with your copy.",
        fields: fields.map(|(name, text)| (name.to_owned(), Shown::Text(text.clone()))).into(),
    }
}

/// Names of what differs: options and files.
fn changed(before: &RulesStatus, now: &RulesStatus) -> String {
    let of_old = before.options.iter().filter(|option| !now.options.contains(option));
    let of_new = now.options.iter().filter(|option| !before.options.contains(option));
    let mut names: Vec<&str> = of_old.chain(of_new).filter_map(|option| option.split(": ").next()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || before.files != now.files {
        let files = changed_files(&before.files, &now.files);
        return names.into_iter().chain([files.as_str()]).collect::<Vec<_>>().join(", ");
    }
    names.join(", ")
}

/// Names of the files that came, went or have other contents.
fn changed_files(before: &[RuleFile], now: &[RuleFile]) -> String {
    /// Most that are named.
    const NAMED: usize = 8;
    let gone = before.iter().filter(|file| now.iter().all(|other| other.name != file.name));
    let mut names: Vec<&str> = now.iter().filter(|file| !before.contains(file)).map(|file| &*file.name).collect();
    names.extend(gone.map(|file| &*file.name));
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let mut text = if names.is_empty() { "their order".to_owned() } else { names.join(", ") };
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_differ_are_named() {
        let file = |name: &str, digest: &str| RuleFile { name: name.into(), digest: digest.into() };
        let before = [file("a", "1"), file("b", "1"), file("c", "1")];
        let now = [file("a", "1"), file("b", "2"), file("d", "1")];
        assert_eq!(changed_files(&before, &now), "b, d, c");
        let many: Vec<_> = (0..20).map(|n| file(&n.to_string(), "1")).collect();
        assert_eq!(changed_files(&[], &many), "0, 1, 2, 3, 4, 5, 6, 7 and 12 more");
        assert_eq!(changed_files(&before, &[file("b", "1"), file("a", "1"), file("c", "1")]), "their order");
    }

    #[test]
    fn a_reload_takes_the_options_of_rules() {
        let folder = std::env::temp_dir().join(format!("tidewatch-reload-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("state/agent")).unwrap();
        let file = folder.join("t.yaml");
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        let base = format!("state_dir: {}\nrules:\n  dropins: null\n", folder.join("state").display());
        let fresh = |more: &str| {
            std::fs::write(&file, format!("{base}{more}")).unwrap();
            load(&sources, None).0
        };
        let plain = fresh("").unwrap();
        let other = fresh("  select: [{disable: {tag: container}}]\n").unwrap();
        assert!(other.status.enabled < plain.status.enabled && !is_same(&plain.status, &other.status));
        assert_eq!(
            other.detector.rules().rules().iter().filter(|rule| rule.enabled).count() as u64,
            other.status.enabled
        );
        assert!(is_same(&plain.status, &fresh("").unwrap().status));
        let refusal = fresh("  select: [{disable: {rule: '*'}}]\n").err().unwrap();
        assert!(refusal.to_string().contains("no rule that is enabled"), "{refusal}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn another_option_is_another_set_and_is_named() {
        let file = |digest: &str| vec![RuleFile { name: "a".into(), digest: digest.into() }];
        let status = |digest: &str, options: &[&str]| RulesStatus {
            digest: digest.into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            files: file("1"),
            ..RulesStatus::default()
        };
        let (plain, first) = (status("1", &[]), status("1", &["rules.matching: first"]));
        assert!(is_same(&plain, &plain) && !is_same(&plain, &first) && !is_same(&plain, &status("2", &[])));
        assert_eq!(changed(&plain, &first), "rules.matching");
        let both = status("2", &["rules.matching: first", "rules.select: [{enable: {tag: a}}]"]);
        assert_eq!(changed(&first, &both), "rules.select");
        assert_eq!(changed(&both, &plain), "rules.matching, rules.select");
        let other = RulesStatus { files: file("2"), ..both.clone() };
        assert_eq!(changed(&plain, &other), "rules.matching, rules.select, a");
        let other = RulesStatus { options: both.options.clone(), files: file("2"), ..status("3", &[]) };
        assert_eq!(changed(&both, &other), "a");
    }
}
