//! Random manifests: injected once they are as injected twice, and undone they are what they were.

use std::{cell::Cell, time::Duration};

use lameduck::inject::{
    self, Policy,
    manifest::{
        Manifests, Source,
        apply::{self, Settings},
        render::{Output, render},
        write,
    },
    options::Options,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value, json};

use crate::command::values;

pub fn whatever_is_injected_can_be_undone() {
    let runner = || {
        let config = Config { failure_persistence: None, ..Config::default() };
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let cases = (prop::collection::vec(object(), 1..4), any::<bool>(), any::<bool>());
    let injected = Cell::new(0);
    let result = runner().run(&cases, |(objects, native, fix)| {
        let text: Vec<String> = objects.iter().map(|object| write::yaml(object).unwrap()).collect();
        let text = text.join("--- # next\n");
        let settings = settings(native, fix);
        let once = rewritten(&text, |manifests| {
            apply::inject(manifests, &settings, &inject::inject);
        });
        let twice = rewritten(&once, |manifests| {
            apply::inject(manifests, &settings, &inject::inject);
        });
        prop_assert_eq!(&twice, &once);
        let undone = rewritten(&once, |manifests| {
            let report = apply::uninject(manifests, &inject::restore);
            // Nobody edited anything.
            let warnings = report.entries.iter().flat_map(|entry| &entry.warnings);
            assert_eq!(warnings.collect::<Vec<_>>(), [""; 0], "{once}");
        });
        prop_assert_eq!(values(&undone), objects);
        Ok(())
    });
    result.unwrap();
    // The property would hold if nothing were ever done.
    let counted = runner().run(&object(), |object| {
        let text = write::yaml(&object).unwrap();
        let done = rewritten(&text, |manifests| {
            apply::inject(manifests, &settings(true, true), &inject::inject);
        });
        injected.set(injected.get() + u32::from(done != text));
        Ok(())
    });
    counted.unwrap();
    assert!(injected.get() > 20, "only {} were injected", injected.get());
}

/// Four times the documents may take four times as long and some more, and would take sixteen times as long if every
/// document were looked at once per document.
///
/// What counts is this thread's time on a processor, so that whatever else the machine does is nobody's business.
pub fn many_documents_take_their_number_of_times_as_long() {
    let settings = settings(true, true);
    let fastest = |count: usize| {
        let one =
            |index| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{index}}}\n");
        let text = (0..count).map(one).collect::<Vec<_>>().join("---\n");
        let read = Manifests::read(&[Source { name: "test", text: &text }]).unwrap();
        let took = |_| {
            let mut manifests = read.clone();
            let begun = on_processor();
            let report = apply::inject(&mut manifests, &settings, &inject::inject);
            assert_eq!(report.to_string(), "nothing to do\n");
            on_processor() - begun
        };
        // What others leave in the caches only makes it slower.
        (0..5).map(took).min().unwrap()
    };
    let (few, many) = (fastest(2_000), fastest(8_000));
    assert!(many < few * 10, "{few:?} became {many:?}");
}

fn on_processor() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

fn settings(native: bool, fix_services: bool) -> Settings {
    let mut defaults = Options::default();
    defaults.set("native-sidecar", if native { "true" } else { "false" }).unwrap();
    Settings {
        policy: Policy { defaults, kubernetes: Some(33), excluded_namespaces: Vec::new() },
        only_labelled: false,
        fix_services,
        hook_token: None,
        named_ports: vec!["8080=http".parse().unwrap(), "9000=web".parse().unwrap()],
    }
}

fn rewritten(text: &str, change: impl FnOnce(&mut Manifests<'_>)) -> String {
    let mut manifests = Manifests::read(&[Source { name: "test", text }]).unwrap();
    change(&mut manifests);
    render(&manifests, Output::AsTheyCame).unwrap()
}

// === strategies ===

fn object() -> impl Strategy<Value = Value> {
    let deployment = ("[a-c]", pod()).prop_map(|(name, template)| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"template": template}})
    });
    let cron = pod().prop_map(|template| {
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}})
    });
    let service = (one_of(&[json!({}), json!({"app": "a"})]), prop::collection::vec(service_port(), 0..3), annotations())
        .prop_map(|(selector, ports, annotations)| {
            let mut metadata = json!({"name": "s"});
            metadata.as_object_mut().unwrap().extend(annotations);
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": selector, "ports": ports}})
        });
    let single = prop_oneof![4 => deployment, 1 => cron, 2 => service];
    let list = prop::collection::vec(single.clone().boxed(), 0..3)
        .prop_map(|items| json!({"apiVersion": "v1", "kind": "List", "items": items}));
    prop_oneof![4 => single, 1 => list]
}

fn pod() -> impl Strategy<Value = Value> {
    let spec = (
        prop::collection::vec(container(), 0..3),
        optional("terminationGracePeriodSeconds", &[json!(0), json!(30), json!(120), json!(null)]),
        optional(
            "initContainers",
            &[json!([]), json!(null), json!([{"name": "init", "image": "i"}])],
        ),
        optional("volumes", &[json!([]), json!([{"name": "v", "emptyDir": {}}])]),
        optional("unknown", &[json!({"on": "y", "n": [1.5, null, "0644"]})]),
    );
    (
        spec,
        optional("labels", &[json!({"app": "a"}), json!({}), json!(null)]),
        annotations(),
        any::<bool>(),
    )
        .prop_map(
            |(
                (mut containers, grace, init, volumes, unknown),
                labels,
                annotations,
                with_metadata,
            )| {
                for (index, container) in containers.iter_mut().enumerate() {
                    container["name"] = format!("c{index}").into();
                }
                let mut spec = Map::new();
                spec.insert("containers".to_owned(), containers.into());
                spec.extend([grace, init, volumes, unknown].into_iter().flatten());
                let mut pod = json!({"spec": spec});
                if with_metadata {
                    pod["metadata"] =
                        labels.into_iter().chain(annotations).collect::<Map<_, _>>().into();
                }
                pod
            },
        )
}

fn container() -> impl Strategy<Value = Value> {
    let port = (
        one_of(&[json!(8080), json!(9000), json!(15800)]),
        optional("name", &[json!("http"), json!("grpc"), json!(null)]),
    )
        .prop_map(|(number, name)| {
            let mut port = json!({"containerPort": number});
            port.as_object_mut().unwrap().extend(name);
            port
        });
    let probe = [
        json!({"httpGet": {"path": "/", "port": "http"}}),
        json!({"tcpSocket": {"port": 8080}, "timeoutSeconds": 3}),
        json!({"exec": {"command": ["true"]}}),
    ];
    let hook = [
        json!({"preStop": {"exec": {"command": ["sleep", "5"]}}}),
        json!({"preStop": {"httpGet": {"path": "/bye", "port": 8080}}}),
        json!({"postStart": {"exec": {"command": ["true"]}}}),
        json!({}),
        json!(null),
    ];
    (
        prop::collection::vec(port, 0..3),
        optional("readinessProbe", &probe),
        optional("livenessProbe", &probe),
        optional("lifecycle", &hook),
    )
        .prop_map(|(ports, readiness, liveness, lifecycle)| {
            let mut container = json!({"name": "", "image": "x", "ports": ports});
            container
                .as_object_mut()
                .unwrap()
                .extend([readiness, liveness, lifecycle].into_iter().flatten());
            container
        })
}

fn service_port() -> impl Strategy<Value = Value> {
    (
        one_of(&[json!(80), json!(8080), json!(9000)]),
        optional("targetPort", &[json!(8080), json!("http"), json!(9000), json!(null)]),
    )
        .prop_map(|(number, target)| {
            let mut port = json!({"port": number});
            port.as_object_mut().unwrap().extend(target);
            port
        })
}

fn annotations() -> impl Strategy<Value = Option<(String, Value)>> {
    optional(
        "annotations",
        &[json!({}), json!(null), json!({"a": "b"}), json!({"lameduck.dev/capture": "swap"})],
    )
}

fn optional(
    key: &'static str,
    values: &[Value],
) -> impl Strategy<Value = Option<(String, Value)>> + use<> {
    prop::option::of(one_of(values).prop_map(move |value| (key.to_owned(), value)))
}

fn one_of(values: &[Value]) -> impl Strategy<Value = Value> + use<> {
    prop::sample::select(values.to_vec())
}
