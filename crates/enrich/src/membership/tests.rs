//! Whose a cgroup is, and who waits for how long.

use tw_model::link::PodNews;
use tw_model::raw::to_words;

use super::*;

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn named(id: &str) -> RuntimeUpdate {
    RuntimeUpdate::Container(Box::new(Container {
        id: id.into(),
        name: "web".into(),
        complete: true,
        ..Container::default()
    }))
}

fn membership(path: &str) -> Membership {
    let mut cgroups = Cgroups::at(None);
    cgroups.insert(7, path);
    let mut membership = Membership::new(cgroups, Sources::default());
    membership.somebody_answers = true;
    membership
}

fn record(time: u64) -> Vec<u64> {
    use tw_model::raw::{Encoder, ExitBody, Header};
    let kind = tw_model::EventKind::Procexit as u16;
    let header = Header { kind, time, cgroup: 7, ..Header::default() };
    to_words(&Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default()))
}

fn admit(membership: &mut Membership, words: &[u64]) -> bool {
    membership.admit(&Raw::parse(tw_model::raw::from_words(words)).unwrap())
}

#[test]
fn events_wait_for_the_name_and_keep_their_order() {
    let mut membership = membership(&format!("/docker/{ID}"));
    membership.place(7, None);
    assert!(!admit(&mut membership, &record(1)));
    assert!(!admit(&mut membership, &record(2)));
    assert!(membership.release(3).is_empty());
    membership.apply(0, named(ID));
    assert_eq!(membership.release(4), [record(1), record(2)]);
    assert!(admit(&mut membership, &record(5)));
    assert_eq!(membership.container(7).map(|c| c.name.as_str()), Some("web"));
}

#[test]
fn the_wait_is_bounded_in_time_and_ends_when_nobody_knows_the_container() {
    let mut bounded = membership(&format!("/docker/{ID}"));
    bounded.place(7, None);
    assert!(!admit(&mut bounded, &record(1)));
    assert_eq!(bounded.release(1 + PATIENCE_NS).len(), 1);
    assert!(admit(&mut bounded, &record(2)), "one wait is enough");

    let mut unknown = membership(&format!("/docker/{ID}"));
    unknown.place(7, None);
    assert!(!admit(&mut unknown, &record(1)));
    unknown.apply(0, RuntimeUpdate::NoMore(ID.into()));
    assert_eq!(unknown.release(2).len(), 1);
}

#[test]
fn room_is_given_back_whatever_the_length_of_a_record() {
    let mut membership = membership(&format!("/docker/{ID}"));
    membership.place(7, None);
    let mut odd = record(1);
    // The first two bytes are the record's size; the kernel writes sizes that are no multiple of 8.
    odd[0] = (odd[0] & !0xffff) | (odd.len() as u64 * 8 + 5);
    odd.push(0);
    assert!(!admit(&mut membership, &odd));
    membership.apply(0, named(ID));
    assert_eq!(membership.release(2), [odd]);
    assert!(membership.room.is_empty() && membership.room.bytes() == 0);
}

#[test]
fn a_container_cannot_pass_for_another_by_the_name_of_a_child_cgroup() {
    let mut membership = membership(&format!("/docker/{ID}/{OTHER}"));
    membership.apply(0, named(ID));
    membership.apply(0, named(OTHER));
    membership.place(7, Some(OTHER));
    assert_eq!(membership.container(7).map(|c| c.id.as_str()), Some(ID));
}

#[test]
fn a_first_word_does_not_replace_the_whole() {
    let mut membership = membership(&format!("/docker/{ID}"));
    membership.apply(0, named(ID));
    membership.apply(0, RuntimeUpdate::Container(Box::new(Container { id: ID.into(), ..Container::default() })));
    membership.place(7, None);
    assert_eq!(membership.container(7).map(|c| c.name.as_str()), Some("web"));
}

#[test]
fn one_whole_answer_ends_the_wait_and_so_do_all_that_have_no_more() {
    let told = |complete: bool, image: &str| {
        RuntimeUpdate::Container(Box::new(Container {
            id: ID.into(),
            runtime: "containerd".into(),
            image: image.into(),
            complete,
            ..Container::default()
        }))
    };
    let waiting = || {
        let mut membership = membership(&format!("/docker/{ID}"));
        membership.place(7, None);
        assert!(!admit(&mut membership, &record(1)));
        membership.containers.get_mut(ID).unwrap().pending = 0b11;
        membership
    };
    let mut whole = waiting();
    whole.apply(0, told(false, ""));
    assert!(whole.release(2).is_empty());
    whole.apply(1, told(true, "web:1"));
    assert_eq!(whole.release(2).len(), 1);

    let mut parts = waiting();
    parts.apply(0, told(false, "web:1"));
    parts.apply(0, RuntimeUpdate::NoMore(ID.into()));
    assert!(parts.release(2).is_empty(), "the other may know more");
    parts.apply(1, RuntimeUpdate::NoMore(ID.into()));
    assert_eq!(parts.release(2).len(), 1);
    let container = parts.container(7).unwrap();
    assert!(container.complete && container.image == "web:1");
}

#[test]
fn a_cgroup_whose_path_was_told_is_a_containers_and_its_children_too() {
    let mut membership = membership(&format!("/default/web/{OTHER}"));
    membership.apply(0, named(OTHER));
    membership.apply(0, RuntimeUpdate::Path { path: "/default/web".into(), id: "web".into() });
    membership.place(7, None);
    assert_eq!(membership.container(7).map(|c| c.id.as_str()), Some("web"), "not another by the name of a child");
    membership.apply(0, named("web"));
    membership.place(8, Some("web"));
    assert_eq!(membership.container(8).map(|c| c.id.as_str()), Some("web"), "gone already: its name is enough");
}

#[test]
fn records_wait_for_the_answer_whose_a_cgroup_is() {
    for is_containers in [false, true] {
        let mut membership = membership("/default/web");
        membership.by_cgroup.insert(7, Member::Asked(0));
        assert!(!admit(&mut membership, &record(1)));
        assert!(membership.release(2).is_empty());
        if is_containers {
            membership.apply(0, RuntimeUpdate::Path { path: "/default/web".into(), id: "web".into() });
            membership.apply(0, named("web"));
        }
        assert!(membership.cgroups.lookup(7).is_none());
        membership.apply(0, RuntimeUpdate::Looked { cgroup: 7 });
        assert_eq!(membership.release(3).len(), 1);
        assert_eq!(membership.container(7).is_some(), is_containers);
    }
    let mut late = membership("/default/web");
    late.by_cgroup.insert(7, Member::Asked(0));
    assert!(!admit(&mut late, &record(1)));
    assert_eq!(late.release(1 + PATIENCE_NS).len(), 1, "no answer in time");
    assert!(admit(&mut late, &record(2)));
}

#[test]
fn a_name_that_is_used_again_is_another_container() {
    let mut membership = membership("/default/web");
    let with_label = |label: &str| {
        let labels = [(label.to_owned(), String::new())].into();
        RuntimeUpdate::Container(Box::new(Container {
            id: "web".into(),
            labels,
            complete: true,
            ..Container::default()
        }))
    };
    membership.apply(0, with_label("old"));
    membership.apply(0, RuntimeUpdate::Gone("web".into()));
    assert_eq!(membership.containers().count(), 0);
    membership.apply(0, with_label("new"));
    let labels: Vec<_> = membership.containers().flat_map(|container| container.labels.keys()).collect();
    assert_eq!(labels, ["new"]);
}

#[test]
fn a_number_is_never_another_container() {
    let mut membership = membership(&format!("/docker/{ID}"));
    membership.place(7, None);
    membership.apply(0, named(ID));
    membership.apply(0, RuntimeUpdate::Gone(ID.into()));
    let bundle = Announced { id: ID.into(), runtime: "runc", bundle: "/b".into(), root: "/r".into() };
    membership.announce(&bundle);
    let late = Container { id: ID.into(), runtime: "docker".into(), ..Container::default() };
    membership.apply(0, RuntimeUpdate::Container(Box::new(late)));
    assert_eq!(membership.container(7).map(|c| c.name.as_str()), Some("web"), "a late word takes nothing away");
}

#[test]
fn processes_of_the_host_have_a_unit() {
    for (path, unit) in [
        ("/system.slice/nginx.service", Some("nginx.service")),
        ("/user.slice/user-0.slice/user@0.service/app.slice/a.service/sub", Some("a.service")),
        ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
        ("/user.slice", None),
        ("/some/where", None),
    ] {
        let mut membership = membership(path);
        membership.journal.switch_on();
        membership.place(7, None);
        assert_eq!(membership.unit(7), unit, "{path}");
        assert_eq!(membership.journal.drain().count(), usize::from(unit.is_some()));
    }
}

#[test]
fn told_paths_are_bounded() {
    let mut membership = membership("/x");
    for n in 0..2 * MAX_PATHS {
        membership.apply(0, RuntimeUpdate::Path { path: format!("/{n}"), id: "x".into() });
    }
    assert_eq!((membership.paths.len(), membership.path_order.len()), (MAX_PATHS, MAX_PATHS));
    assert!(membership.paths.contains_key(&*format!("/{}", 2 * MAX_PATHS - 1)));
}

#[test]
fn a_container_with_the_name_of_a_folder_of_others_does_not_get_those() {
    let mut membership = membership(&format!("/docker/{ID}"));
    membership.apply(0, named(ID));
    membership.apply(0, named("docker"));
    for path in ["/docker", "/user.slice", "/"] {
        membership.apply(0, RuntimeUpdate::Path { path: path.into(), id: "docker".into() });
    }
    membership.place(7, None);
    assert_eq!(membership.container(7).map(|c| c.id.as_str()), Some(ID));
}

fn pod(uid: &str, app: &str) -> tw_model::container::Pod {
    let owner = |kind: &str, name: &str| tw_model::container::Owner {
        kind: kind.into(),
        name: name.into(),
        uid: format!("{name}-uid"),
    };
    tw_model::container::Pod {
        uid: uid.into(),
        name: "web-7d4b9c8f6-x2x9k".into(),
        namespace: "shop".into(),
        node: "node-1".into(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        owners: vec![owner("replicaset", "web-7d4b9c8f6"), owner("deployment", "web")],
        ..Default::default()
    }
}

fn news(anew: bool, pods: Vec<tw_model::container::Pod>, gone: &[&str]) -> PodNews {
    PodNews { anew, pods, gone: gone.iter().map(|uid| (*uid).to_owned()).collect() }
}

/// Container notes in the journal since the last call.
fn noted(membership: &mut Membership) -> Vec<Container> {
    let notes = membership.journal.drain();
    let containers = notes.filter_map(|note| match note {
        Context::Container { container } => Some(*container),
        _ => None,
    });
    containers.collect()
}

#[test]
fn a_pod_of_the_api_is_joined_whether_it_comes_before_the_container_or_after() {
    let path = format!("/kubepods/besteffort/podu-1/{ID}");
    let mut early = membership(&path);
    early.journal.switch_on();
    early.take_pods(news(true, vec![pod("u-1", "web"), pod("u-2", "other")], &[]));
    early.place(7, None);
    let container = early.container(7).unwrap().clone();
    assert_eq!(
        (&*container.pod.name, container.pod.owner("deployment").map(|o| &*o.name)),
        ("web-7d4b9c8f6-x2x9k", Some("web"))
    );
    assert_eq!(noted(&mut early).last(), Some(&container), "a replay is to know it");
    // The runtime's word, which has the labels of the pod's start, does not take it away.
    let told = tw_model::container::Pod {
        uid: "u-1".into(),
        sandbox_id: "s".into(),
        labels: [("app".to_owned(), "old".to_owned())].into(),
        ..Default::default()
    };
    let container = Container { id: ID.into(), name: "app".into(), pod: told, complete: true, ..Container::default() };
    early.apply(0, RuntimeUpdate::Container(Box::new(container)));
    let container = early.container(7).unwrap();
    assert_eq!((&*container.name, &*container.pod.sandbox_id, &*container.pod.labels["app"]), ("app", "s", "web"));

    let mut late = membership(&path);
    late.place(7, None);
    assert_eq!(late.container(7).unwrap().pod.uid, "u-1");
    late.journal.switch_on();
    let version = late.version();
    late.take_pods(news(true, vec![pod("u-1", "web")], &[]));
    assert!(late.version() > version && late.container(7).unwrap().pod.node == "node-1");
    assert_eq!(noted(&mut late).len(), 1);
    let version = late.version();
    late.take_pods(news(true, vec![pod("u-1", "web")], &[]));
    assert_eq!((late.version(), noted(&mut late).len()), (version, 0), "nothing new");
    late.take_pods(news(false, vec![pod("u-1", "changed")], &[]));
    assert_eq!(late.container(7).unwrap().pod.labels["app"], "changed");
    late.take_pods(news(false, Vec::new(), &["u-1"]));
    assert_eq!(late.container(7).unwrap().pod.name, "web-7d4b9c8f6-x2x9k", "what happened there is still its doing");
    assert_eq!(late.pods.size().0, 0);
}

#[test]
fn a_label_of_the_kubelet_is_as_good_as_a_pods_uid_and_a_containers_own_cgroup_is_not() {
    let mut labelled = membership(&format!("/docker/{ID}"));
    labelled.take_pods(news(true, vec![pod("u-1", "web")], &[]));
    let labels = [("io.kubernetes.pod.uid".to_owned(), "u-1".to_owned())].into();
    let container = Container { id: ID.into(), labels, complete: true, ..Container::default() };
    labelled.apply(0, RuntimeUpdate::Container(Box::new(container)));
    labelled.place(7, None);
    assert_eq!(labelled.container(7).unwrap().pod.name, "web-7d4b9c8f6-x2x9k");

    let mut forger = membership(&format!("/docker/{ID}/kubepods/podu-1"));
    forger.take_pods(news(true, vec![pod("u-1", "web")], &[]));
    forger.apply(0, named(ID));
    forger.place(7, None);
    assert!(forger.container(7).unwrap().pod.is_empty());
}

#[test]
fn pods_without_end_stay_within_their_table() {
    let mut membership = membership("/x");
    let mut huge = pod("u", "web");
    huge.labels = (0..2_000).map(|n| (format!("label-{n}"), "x".repeat(500))).collect();
    huge.namespace_labels = huge.labels.clone();
    huge.owners = vec![huge.owners[0].clone(); 1_000];
    for n in 0..3_000 {
        huge.uid = format!("u-{n}");
        membership.take_pods(news(n == 0, vec![huge.clone()], &[]));
    }
    let (entries, capacity, left_out) = membership.pods.size();
    assert_eq!((entries, left_out), (capacity, 3_000 - capacity));
    let kept = bounded_pod(&membership);
    assert!(kept < 12 << 10, "{kept} bytes for each");
    membership.take_pods(news(true, vec![pod("u-1", "web"), pod("", "web")], &[]));
    assert_eq!(membership.pods.size().0, 1);
}

/// Bytes of the texts of a pod in the table.
fn bounded_pod(membership: &Membership) -> usize {
    let mut container =
        Container { pod: tw_model::container::Pod { uid: "u-0".into(), ..Default::default() }, ..Container::default() };
    membership.pods.join(&mut container);
    assert!(!container.pod.name.is_empty());
    serde_json::to_vec(&container.pod).unwrap().len()
}

#[test]
fn a_container_that_makes_room_is_a_change() {
    let mut membership = membership(&format!("/docker/{ID}"));
    let entry = || Entry { container: Arc::default(), wait_until: u64::MAX, pending: 0 };
    for n in 0..=MAX_CONTAINERS {
        let before = membership.version();
        // As of one that is announced.
        membership.remember(format!("c{n}").into(), entry());
        assert_ne!(membership.version(), before);
    }
    assert_eq!((membership.counts().containers, membership.counts().evicted), (MAX_CONTAINERS, 1));
}
