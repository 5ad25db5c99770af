//! Guards what an operator gets beside the binary: service unit, installation, Debian package, container image,
//! dashboard, alert rules and their pages.
//!
//! The heavy parts are the scripts in `deploy/tests`; each works on a throwaway copy of the host and says with status
//! 77 that it cannot be tried here.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What systemd says of the unit: 0 is a cage, 10 is no protection. A change that lifts it needs a reason.
const MAX_EXPOSURE: f64 = 3.3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn skip(reason: &str) {
    assert!(std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_none_or(|value| value != "1"), "may not skip: {reason}");
    eprintln!("skipped: {reason}");
}

fn has(tool: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(tool).exists())
}

/// The binary to package: named by `TIDEWATCH_BINARY`, else built with these tests, else the release.
fn binary() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("TIDEWATCH_BINARY").map(PathBuf::from).into_iter().collect();
    if places.is_empty() {
        // target/debug/deps/deploy-… → target/debug
        let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
        places.extend([profile.join("tidewatch"), profile.with_file_name("release").join("tidewatch")]);
    }
    places.into_iter().find(|place| place.exists())
}

/// Runs a script of `deploy/tests`.
fn script(name: &str) {
    let Some(binary) = binary() else { return skip("tidewatch is not built: cargo build -p tidewatch") };
    let out = Command::new(root().join("deploy/tests").join(name)).env("BINARY", binary).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    match out.status.code() {
        Some(0) => eprint!("{text}"),
        Some(77) => skip(text.lines().last().unwrap_or_default()),
        _ => panic!("deploy/tests/{name}: {}\n{text}", out.status),
    }
}

fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| word.starts_with("tidewatch_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect()
}

fn assert_known(place: &str, expression: &str) {
    // Another test keeps the document true to the code.
    let document = read("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let known: BTreeSet<&str> = rows.collect();
    for metric in metrics_in(expression) {
        let base = metric.strip_suffix("_count").or(metric.strip_suffix("_sum")).unwrap_or(metric);
        assert!(known.contains(base), "{place} asks for {metric}, which docs/metrics.md has not");
    }
}

/// The anchors of a page's headings, as Git hosts make them.
fn anchors(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| heading.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.replace(|letter: char| !(letter.is_alphanumeric() || " -_".contains(letter)), ""))
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

/// Where the links of a page lead, without those to the web.
fn links(page: &str) -> Vec<&str> {
    let starts = page.match_indices("](").map(|(at, _)| &page[at + 2..]);
    let targets = starts.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://") && !target.contains(char::is_whitespace)).collect()
}

/// Asserts that each link of the pages below `folder` leads to a file there, and to a heading of it.
fn assert_links_lead(folder: &Path, pages: &[PathBuf]) {
    let mut seen = 0;
    for page in pages {
        let text = std::fs::read_to_string(page).unwrap();
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let target = target.canonicalize().unwrap_or_else(|error| panic!("{}: {link}: {error}", page.display()));
            assert!(target.starts_with(folder), "{}: {link} leads outside", page.display());
            if !heading.is_empty() {
                let known = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(known.contains(heading), "{}: {link}: there is no such heading", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= pages.len(), "{seen} links in {} pages", pages.len());
}

fn pages(folders: &[PathBuf]) -> Vec<PathBuf> {
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let folder = root().canonicalize().unwrap();
    assert_links_lead(&folder, &pages(&[folder.clone(), folder.join("docs"), folder.join("docs/spec")]));
}

#[test]
fn every_link_in_the_installed_documents_leads_to_what_is_installed() {
    for (prefix, package) in [("/usr/local", ""), ("/usr", "deb")] {
        let stage = std::env::temp_dir().join(format!("tidewatch-pages-{}-{package}", std::process::id()));
        let mut install = Command::new(root().join("scripts/install"));
        // Any program will do: it is asked for completions, and pages do not depend on it.
        install.env("DESTDIR", &stage).env("PREFIX", prefix).env("PACKAGE", package).env("SYSTEMD", "yes");
        let out = install.env("BINARY", "/bin/true").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let folder = stage.canonicalize().unwrap().join(&prefix[1..]).join("share/doc/tidewatch");
        assert_links_lead(&folder, &pages(&[folder.clone(), folder.join("spec")]));
        let text = std::fs::read_to_string(folder.join("run.md")).unwrap();
        // A page is what it was but for its links.
        assert_eq!(text.lines().count(), read("docs/run.md").lines().count());
        std::fs::remove_dir_all(&stage).unwrap();
    }
}

#[test]
fn a_removal_leaves_nothing_behind_and_an_upgrade_keeps_the_configuration() {
    script("install");
}

#[test]
fn the_debian_package_installs_upgrades_and_purges_without_a_trace() {
    script("deb");
}

#[test]
fn the_container_image_runs_with_the_capabilities_it_asks_for() {
    script("image");
}

#[test]
fn the_service_lives_under_systemd_with_all_of_its_hardening() {
    script("service");
}

#[test]
fn the_service_runs_with_the_capabilities_of_its_unit() {
    script("rights");
}

#[test]
fn the_unit_is_sound_and_hardened() {
    if !has("systemd-analyze") {
        return skip("no systemd-analyze");
    }
    let Some(binary) = binary() else { return skip("tidewatch is not built: cargo build -p tidewatch") };
    let folder = std::env::temp_dir().join(format!("tidewatch-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let unit = folder.join("tidewatch.service");
    let text = read("deploy/systemd/tidewatch.service");
    assert!(text.contains("\nExecStart=/usr/bin/tidewatch run\n"), "scripts/install looks for this line");
    std::fs::write(&unit, text.replace("/usr/bin/tidewatch", binary.to_str().unwrap())).unwrap();

    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let complaints = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success() && complaints.trim().is_empty(), "systemd-analyze verify: {complaints}");

    let security = Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(&unit).output().unwrap();
    let report = String::from_utf8_lossy(&security.stdout).into_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    let exposure: f64 = report
        .lines()
        .find_map(|line| line.split_once("tidewatch.service: "))
        .and_then(|(_, rest)| rest.split(' ').next())
        .and_then(|figure| figure.parse().ok())
        .unwrap_or_else(|| panic!("no figure in {report}"));
    assert!(exposure <= MAX_EXPOSURE, "exposure is {exposure}: {report}");

    // Each remaining weakness is explained.
    let page = read("docs/install.md");
    for line in report.lines().filter(|line| line.starts_with('✗')) {
        let name = line.trim_start_matches(['✗', ' ']).split("  ").next().unwrap();
        assert!(page.contains(&format!("`{name}`")), "docs/install.md does not explain {name}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/tidewatch.json")).unwrap();
    assert_eq!(dashboard["uid"], "tidewatch");
    let variables: Vec<&str> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "instance"]);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut targets = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(place("x") + x < 24, "{title} is wider than the page");
            assert!(taken.insert((place("x") + x, place("y") + y)), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().unwrap().len() > 10, "{title} has no description");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("instance=~\"$instance\""), "{title} does not heed the variable");
            assert!(!metrics_in(expression).is_empty(), "{title} asks for nothing");
            assert_known(title, expression);
            targets += 1;
        }
    }
    assert!(targets > 40, "only {targets} queries");
}

#[test]
fn every_alert_asks_for_metrics_that_exist_and_has_a_page() {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let page = read("docs/monitoring.md");
    let anchors = anchors(&page);
    let mut names = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let expression = rule["expr"].as_str().unwrap();
        assert_known(name, expression);
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning" | "info")), "{name}");
        let notes = &rule["annotations"];
        assert!(notes["summary"].as_str().unwrap().contains("$labels.instance"), "{name} does not say where");
        assert!(notes["description"].as_str().is_some(), "{name} has no description");
        let (file, anchor) = notes["runbook_url"].as_str().unwrap().split_once('#').unwrap();
        assert_eq!(file, "docs/monitoring.md");
        assert!(anchors.contains(anchor), "{name}: no heading #{anchor} in {file}");
    }
    assert!(names.len() >= 16, "only {names:?}");
    for anchor in anchors.iter().filter(|anchor| anchor.starts_with("tidewatch")) {
        assert!(names.iter().any(|name| name.to_lowercase() == *anchor), "{anchor} is explained but no alert");
    }
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    if !has("promtool") {
        eprintln!("skipped: no promtool (Debian: prometheus)");
        return;
    }
    for arguments in
        [["check", "rules", "deploy/prometheus/rules.yaml"], ["test", "rules", "deploy/prometheus/rules-test.yaml"]]
    {
        let out = Command::new("promtool").args(arguments).current_dir(root()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{arguments:?}: {text}");
    }
}

#[test]
fn compose_and_kubernetes_grant_what_the_unit_grants() {
    let unit = read("deploy/systemd/tidewatch.service");
    let of_unit: BTreeSet<String> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .flat_map(|line| line.split(' ').map(|name| name.trim_start_matches("CAP_").to_owned()))
        .collect();
    let compose = yaml("deploy/compose.yaml");
    let service = &compose["services"]["tidewatch"];
    let of_compose: BTreeSet<String> =
        service["cap_add"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(of_unit, of_compose);
    assert_eq!(service["cap_drop"][0], "ALL");
    assert_eq!(service["read_only"], true);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(service["image"], format!("tidewatch:{version}"));

    let text = read("deploy/kubernetes.yaml");
    let parts = text.split("\n---\n").map(|part| serde_saphyr::from_str::<Value>(part).unwrap());
    let daemons = parts.into_iter().find(|part| part["kind"] == "DaemonSet").unwrap();
    let container = &daemons["spec"]["template"]["spec"]["containers"][0];
    let context = &container["securityContext"];
    let added = context["capabilities"]["add"].as_array().unwrap();
    let of_kubernetes: BTreeSet<String> = added.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(of_unit, of_kubernetes);
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(container["image"], format!("tidewatch:{version}"));
}

#[test]
fn scripts_are_in_order() {
    if !has("shellcheck") {
        return skip("no shellcheck");
    }
    let mut scripts: Vec<PathBuf> = vec![root().join("deploy/in-force")];
    scripts.extend(["postinst", "prerm", "postrm"].map(|name| root().join("deploy/debian").join(name)));
    let found = std::fs::read_dir(root().join("deploy/tests")).unwrap().map(|entry| entry.unwrap().path());
    scripts.extend(found);
    let out = Command::new("shellcheck").args(&scripts).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}
