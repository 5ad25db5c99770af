//! As much of a kubelet as is needed to run a pod: four calls of the Container Runtime Interface (`runtime.v1`), with
//! the fields that they need.

use std::collections::HashMap;
use std::path::Path;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    /// 2 is that of the host ("node").
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct PodLinux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<PodSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<PodLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerLinux {
    #[prost(message, optional, tag = "2")]
    security: Option<ContainerSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Text>,
    #[prost(message, optional, tag = "2")]
    image: Option<Text>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<ContainerLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// What to run.
pub struct Order<'o> {
    pub pod: &'o str,
    pub namespace: &'o str,
    pub uid: &'o str,
    pub labels: &'o [(&'o str, &'o str)],
    pub container: &'o str,
    pub image: &'o str,
    pub command: &'o [&'o str],
}

/// A pod on the host's network, with one container in it; gone with this value.
pub struct Pod {
    socket: std::path::PathBuf,
    pub sandbox: String,
    pub container: String,
}

impl Pod {
    /// Runs it.
    pub fn run(socket: &Path, order: &Order<'_>) -> Self {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        // No network plugin is needed where the pod has the host's network.
        let namespaces = Some(Namespaces { network: 2, pid: 1 });
        let config = PodConfig {
            metadata: Some(PodMetadata {
                name: order.pod.to_owned(),
                uid: order.uid.to_owned(),
                namespace: order.namespace.to_owned(),
            }),
            labels: owned(order.labels),
            linux: Some(PodLinux {
                cgroup_parent: format!("/kubepods/besteffort/pod{}", order.uid),
                security: Some(PodSecurity { namespaces: namespaces.clone() }),
            }),
        };
        // What kubelet puts on each container.
        let labels = owned(&[
            ("io.kubernetes.pod.name", order.pod),
            ("io.kubernetes.pod.namespace", order.namespace),
            ("io.kubernetes.pod.uid", order.uid),
            ("io.kubernetes.container.name", order.container),
        ]);
        let sandbox: Id =
            call(socket, "/runtime.v1.RuntimeService/RunPodSandbox", RunPod { config: Some(config.clone()) });
        let mut pod = Self { socket: socket.to_owned(), sandbox: sandbox.id, container: String::new() };
        let text = |text: &str| Some(Text { text: text.to_owned() });
        let container: Id = call(
            socket,
            "/runtime.v1.RuntimeService/CreateContainer",
            CreateContainer {
                pod: pod.sandbox.clone(),
                config: Some(ContainerConfig {
                    metadata: text(order.container),
                    image: text(order.image),
                    command: order.command.iter().map(|word| (*word).to_owned()).collect(),
                    labels,
                    linux: Some(ContainerLinux { security: Some(ContainerSecurity { namespaces }) }),
                }),
                pod_config: Some(config),
            },
        );
        pod.container = container.id.clone();
        let _: Empty = call(socket, "/runtime.v1.RuntimeService/StartContainer", container);
        pod
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let id = Id { id: self.sandbox.clone() };
            let path = format!("/runtime.v1.RuntimeService/{method}");
            if let Err(error) = try_call::<_, Empty>(&self.socket, &path, id) {
                eprintln!("{method}: {error}");
            }
        }
    }
}

fn call<Q, A>(socket: &Path, method: &str, question: Q) -> A
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    try_call(socket, method, question).unwrap_or_else(|error| panic!("{method}: {error}"))
}

fn try_call<Q, A>(socket: &Path, method: &str, question: Q) -> Result<A, tonic::Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("an address");
        let channel = endpoint.connect().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(method).expect("a path");
        let answer = client.unary(tonic::Request::new(question), path, ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    })
}
