//! What is known of pods goes to the agent, in lines that it takes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tw_model::container::Pod as Told;
use tw_model::link::{FromManager, MAX_MANAGER_LINE, PodNews};

use super::Kubernetes;

/// Bytes of the pods in one line, about. One pod has less than a quarter of the longest line.
const BATCH: usize = MAX_MANAGER_LINE / 2;

/// Tells an agent that knows nothing yet of all pods, then of changes, until it goes.
pub(crate) async fn tell(kubernetes: &Kubernetes, outgoing: mpsc::Sender<FromManager>) {
    let mut changed = kubernetes.changed.subscribe();
    let mut told: HashMap<String, Arc<Told>> = HashMap::new();
    let mut anew = true;
    loop {
        // Before the first list nothing is known, which is not to say that there are no pods.
        if *changed.borrow_and_update() > 0 {
            let (fresh, gone) = kubernetes.news(&told);
            for news in parts(anew, &fresh, &gone) {
                if outgoing.send(FromManager::Pods(news)).await.is_err() {
                    return;
                }
            }
            anew = false;
            for uid in &gone {
                told.remove(uid);
            }
            told.extend(fresh.into_iter().map(|pod| (pod.uid.clone(), pod)));
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn parts(anew: bool, fresh: &[Arc<Told>], gone: &[String]) -> Vec<PodNews> {
    let mut parts = Vec::new();
    let mut part = PodNews { anew, ..PodNews::default() };
    let mut bytes = 0;
    let mut take = |size: usize, part: &mut PodNews| {
        if bytes + size > BATCH && bytes > 0 {
            parts.push(std::mem::take(part));
            bytes = 0;
        }
        bytes += size;
    };
    for uid in gone {
        take(uid.len() + 4, &mut part);
        part.gone.push(uid.clone());
    }
    for pod in fresh {
        let mut pod = (**pod).clone();
        let mut size = size_of(&pod);
        if size > BATCH {
            // Characters that need a mark in front of them: no label of Kubernetes has such.
            pod.labels.clear();
            pod.namespace_labels.clear();
            size = size_of(&pod);
        }
        if size > BATCH {
            continue;
        }
        take(size, &mut part);
        part.pods.push(pod);
    }
    if part != PodNews::default() {
        parts.push(part);
    }
    parts
}

fn size_of(pod: &Told) -> usize {
    serde_json::to_vec(pod).map_or(usize::MAX, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_an_agent_takes() {
        let labels = |character: &str| (0..60).map(|n| (format!("l{n}"), character.repeat(100))).collect();
        let pods: Vec<Arc<Told>> = (0..300)
            .map(|n| {
                let labels = labels(if n % 100 == 0 { "\u{1}" } else { "x" });
                Arc::new(Told { uid: format!("u-{n}"), labels, ..Told::default() })
            })
            .collect();
        let gone: Vec<String> = (0..5_000).map(|n| format!("gone-{n}")).collect();
        let parts = parts(true, &pods, &gone);
        assert!(parts[0].anew && parts[1..].iter().all(|part| !part.anew));
        for part in &parts {
            let line = serde_json::to_vec(&FromManager::Pods(part.clone())).unwrap();
            assert!(line.len() < MAX_MANAGER_LINE, "{}", line.len());
        }
        assert_eq!(parts.iter().map(|part| part.pods.len()).sum::<usize>(), 300);
        assert_eq!(parts.iter().map(|part| part.gone.len()).sum::<usize>(), 5_000);
        assert_eq!(super::parts(false, &[], &[]), []);
        assert_eq!(super::parts(true, &[], &[]).len(), 1, "that there are none is news");
    }
}
