//! Tests of what is written down of the configuration: the default file, the documentation, the schema, what is shown.

use super::*;

#[test]
fn the_default_file_is_the_default_and_names_every_key() {
    let folder = Folder::new("default");
    let empty: Config = serde_saphyr::from_str("{}").unwrap();
    assert_eq!(empty, Config::default());
    // As it is, and with every key taken out of its comment.
    let set = with_every_key_set();
    assert_ne!(set, DEFAULT);
    for (text, all) in [(DEFAULT, false), (&set, true)] {
        assert_eq!(folder.say(text), [] as [&str; 0]);
        let loaded = Config::load(&folder.sources()).unwrap();
        assert_eq!(loaded.config, Config::default());
        for (key, origin) in &loaded.origins {
            assert_eq!(*origin != Origin::Default, all, "{key} in deploy/tidewatch.yaml");
        }
    }
    // The types alone say the same.
    let typed: Config = serde_saphyr::from_str(&set).unwrap();
    assert_eq!(typed, Config::default());
    assert!(serde_saphyr::from_str::<Config>("spool: {max_mb: 1}").is_err());
}

#[test]
fn the_documentation_has_the_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = show::table();
    assert_eq!(table.lines().count(), keys().len() + 2);
    assert!(text.contains(&table), "docs/configuration.md: put in the output of `tidewatch config table`");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let folder = Folder::new("again");
    folder.write(
        "t.yaml",
        "rules: {files: ['/a b', '/c, d', '/e: f #g', '/true', \"/'q'\"], \
         select: [{disable: {rule: 'a: b *'}}, {enable: {tag: 'x,y'}}], \
         append_output: [{match: {tags: ['1', '}']}, extra_fields: [proc.pid, {'a b': '%proc.name: {x}'}]}]}\noutput: {file: /null}\nmanager: {user: '0100'}\n\
         metrics: {listen: '[::1]:1'}\nlog: {level: 'off'}\nstore: {url: 'sqlite:///x#y', retention: {audit: {max_mib: 3}}}\n",
    );
    let first = Config::load(&folder.sources()).unwrap();
    for effective in [false, true] {
        folder.write("t.yaml", show::yaml(&first, effective));
        let second = Config::load(&folder.sources()).unwrap();
        assert_eq!(second.config, first.config);
    }
    assert_eq!(show::scalar(&"0100".into()), "\"0100\"");
    assert_eq!(show::scalar(&"127.0.0.1:9465".into()), "127.0.0.1:9465");
    assert_eq!(show::yaml(&Loaded { config: Config::default(), ..first }, false), "");
}

#[test]
fn changes_say_what_takes_effect_when() {
    let old = Config::default();
    let mut new = old.clone();
    assert_eq!(old.changes(&new), []);
    new.spool.max_mib = 9;
    new.store.url = Some(StoreUrl::new("postgres://u:a@h/d"));
    new.store.retention.audit.max_rows = 9;
    new.run_dir = "/x".into();
    new.agent.docker = false;
    let change = |key: &str, applies: Applies| Change { key: key.into(), live: applies == Applies::Live, applies };
    let expected = [
        change("run_dir", Applies::Service),
        change("agent.docker", Applies::Agent),
        change("spool.max_mib", Applies::Live),
        change("store.url", Applies::Manager),
        change("store.retention.audit.max_rows", Applies::Live),
    ];
    assert_eq!(old.changes(&new), expected);
    // Another password is a change, though it is not shown.
    let mut other = new.clone();
    other.store.url = Some(StoreUrl::new("postgres://u:b@h/d"));
    assert_eq!(new.changes(&other), [change("store.url", Applies::Manager)]);
}

#[test]
fn what_is_said_to_take_effect_at_once_does() {
    let mut new = Config::default();
    (new.rules.files, new.rules.dropins, new.rules.watch) = (vec!["/r".into()], None, false);
    new.rules.matching = Matching::First;
    new.rules.skip_broken = true;
    new.rules.compat = Compat::Falco;
    new.rules.select = vec![Select::Enable(Selected::default())];
    new.rules.append_output = vec![AppendOutput::default()];
    new.agent.priority = tw_model::Priority::Error;
    new.spool.max_mib = 9;
    new.recorder.max_mib = 9;
    new.recorder.max_hours = 9;
    new.log.level = "warn".into();
    let mut old = Config::default();
    let changed: Vec<String> = old.changes(&new).into_iter().map(|change| change.key).collect();
    // How long things are kept is the manager's.
    let live = key::keys().iter().filter(|key| key.applies == Applies::Live && !key.path.starts_with("store."));
    assert_eq!(changed, live.map(|key| key.path.clone()).collect::<Vec<_>>());
    old.take_live(&new);
    assert_eq!(old.changes(&new), []);
}

#[test]
fn derived_paths_follow_their_folders() {
    let mut config = Config::default();
    assert_eq!(config.store_url().reveal(), "sqlite:///var/lib/tidewatch/manager/tidewatch.db");
    config.state_dir = "/s?#%".into();
    config.run_dir = "/r".into();
    assert_eq!(config.store_url().reveal(), "sqlite:///s%3F%23%25/manager/tidewatch.db");
    assert_eq!(config.spool_dir(), Path::new("/s?#%/agent/spool"));
    assert_eq!(config.recorder_dir(), Path::new("/s?#%/agent/recorder"));
    let files = [config.control_socket(), config.agent_socket(), config.supervisor_file()];
    assert_eq!(files, ["/r/control.sock", "/r/agent.sock", "/r/supervisor.json"].map(PathBuf::from));
}

#[test]
fn the_schema_knows_what_the_checks_know() {
    let schema = key::schema();
    let node = |path: &str| path.split('.').fold(&schema, |node, name| &node["properties"][name]).clone();
    assert_eq!(node("store.retention.images.max_days")["default"], 90);
    assert_eq!(node("spool.max_mib")["minimum"].as_f64(), Some(8.0));
    assert_eq!(node("spool")["additionalProperties"], false);
    // Only in the items of a list, which are one thing or the other.
    let in_items = node("rules.select")["items"].to_string().matches("\"required\"").count();
    assert_eq!((in_items, schema.to_string().matches("\"required\"").count()), (2, 2));
    assert!(node("output.stdout")["oneOf"][0]["description"].is_string());
}
