//! No alert is anonymous: containers are named even if they live for some milliseconds.

use serde_json::Value;

use crate::daemon::everything;
use crate::docker::docker;
use crate::image;
use crate::lab;

/// `docker run --rm IMAGE true`, twenty times: each alert names its container and its image.
#[test]
fn short_lived_containers_are_named() {
    let Some(daemon) = everything() else { return };
    let image = image::base();
    let names: Vec<String> = (0..20).map(|_| run_once(image)).collect();
    let nameless: Vec<&String> =
        names.iter().filter(|name| daemon.alert_where(name, |alert| is_named(alert, name, image)).is_none()).collect();
    assert!(
        nameless.is_empty(),
        "{} of {} have no alert with name and image: {nameless:?}",
        nameless.len(),
        names.len()
    );
}

/// Without `--rm` Docker can still be asked when the container has ended; the id must be the one that Docker says.
#[test]
fn the_id_is_dockers() {
    let Some(daemon) = everything() else { return };
    let container = crate::container::Container::idle(image::base(), &[]);
    let id = docker(&["inspect", "-f", "{{.Id}}", &container.name]);
    let alert = daemon.alert("Program started", &container.name);
    assert_eq!(alert["output_fields"]["container.id"], id[..12]);
}

fn run_once(image: &str) -> String {
    let name = lab::unique("once");
    let label = lab::label();
    docker(&["run", "--rm", "--pull=never", "--network", "none", "--label", &label, "--name", &name, image, "true"]);
    name
}

fn is_named(alert: &Value, name: &str, image: &str) -> bool {
    let fields = &alert["output_fields"];
    fields["proc.name"] == "true" && fields["container.name"] == name && fields["container.image.repository"] == image
}
