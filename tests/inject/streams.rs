//! Streams in and out: what is copied, what is refused, exit codes, options. What is done to a pod is not looked at.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::command::{exactly, lameduck, values};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
  - {name: app, image: app, ports: [{name: http, containerPort: 8080}]}
";

const PORTLESS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  containers:
  - {name: app, image: app}
";

pub fn are_copied_where_nothing_is_done() {
    let stream = "\u{feff}# mode: 0644\r\napiVersion: v1\r\nkind: ConfigMap\r\nmetadata:   {name: x}\r\ndata:\r\n  \
                  a: |\r\n    ---\r\n  'on':  \"y\" # c\r\n---\r\n---  # nothing\r\n\r\n...\r\n---\r\n{\"apiVersion\": \
                  \"v1\", \"kind\": \"Secret\"}";
    for tool in ["inject", "uninject"] {
        let ran = lameduck(tool, stream).ok();
        assert_eq!(ran.out, stream);
        assert_eq!(ran.err, "nothing to do\n");
    }
    assert_eq!(lameduck("inject", "").ok().out, "");
}

pub fn that_cannot_be_read_give_nothing() {
    for (stream, told) in [
        ("a: [\n", "standard input: line "),
        ("a: 1\n...\nb: 2\n", "standard input: line 3: "),
        ("-----BEGIN\n", "standard input: line 1: "),
        ("a: *b\n", "standard input: line 1: "),
        ("{\"a\": 1}}", "standard input: line 1: "),
    ] {
        let ran = lameduck("inject", &format!("{POD}---\n{stream}")).ran_badly();
        assert!(ran.0.is_empty(), "{stream}: {}", ran.0);
        assert!(ran.1.starts_with("lameduck: standard input: line "), "{stream}: {}", ran.1);
        let alone = lameduck("inject", stream).ran_badly();
        assert!(alone.1.contains(told), "{stream}: {}", alone.1);
    }
    let folder = tempfile::tempdir().unwrap();
    let told = lameduck(&format!("inject -f {}", folder.path().display()), "").ran_badly().1;
    assert!(told.contains("no manifests in this folder"), "{told}");
    let told = lameduck(&format!("inject -f {}/none", folder.path().display()), "").ran_badly().1;
    assert!(told.contains("none: No such file"), "{told}");
    let latin = folder.path().join("latin1.yaml");
    fs::write(&latin, b"a: 1\nb: \xe4\n").unwrap();
    let told = lameduck(&format!("inject -f {}", latin.display()), "").ran_badly().1;
    assert!(told.contains("latin1.yaml: line 2: not UTF-8"), "{told}");
    let told = lameduck("inject -f - -f -", POD).ran_badly().1;
    assert!(told.contains("only once"), "{told}");
}

pub fn of_several_files_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("b.yaml");
    fs::write(&other, PORTLESS.trim_end()).unwrap();
    let ran = lameduck(&format!("inject -f {} -f -", other.display()), POD).ok();
    assert!(
        ran.out.starts_with(&format!("{}\n---\napiVersion: v1\nkind: Pod\n", PORTLESS.trim_end())),
        "{}",
        ran.out
    );
    assert_eq!(values(&ran.out).len(), 2);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert!(lines[0].starts_with("pod/b: skipped: no-named-port: "), "{lines:?}");
    assert!(lines[1].starts_with("pod/a: injected ("), "{lines:?}");
    assert_eq!(lines[2], "1 injected, 1 skipped");
}

pub fn of_json_stay_json() {
    let pod = &values(POD)[0];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [pod, {"kind": "X", "apiVersion": "v1", "x": 1}]});
    let stream = format!(
        "{}\n{}\n",
        serde_json::to_string_pretty(&list).unwrap(),
        json!({"kind":"Y","apiVersion":"v1"})
    );
    let ran = lameduck("inject", &stream).ok();
    let mut written = serde_json::Deserializer::from_str(&ran.out).into_iter::<Value>();
    let first = written.next().unwrap().unwrap();
    assert_eq!(first["items"][0]["metadata"]["labels"]["lameduck.dev/injected"], "true");
    assert_eq!(first["items"][1], list["items"][1]);
    assert!(
        ran.out.starts_with("{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"List\",\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("}\n{\"kind\":\"Y\",\"apiVersion\":\"v1\"}\n"), "{}", ran.out);
    let undone = lameduck("uninject", &ran.out).ok().out;
    assert_eq!(values(&undone), values(&stream));
}

pub fn may_be_printed_as_json_or_yaml() {
    let one: Value = serde_json::from_str(&lameduck("inject -o json", POD).ok().out).unwrap();
    assert_eq!(one["kind"], "Pod");
    let two = lameduck("inject -o json", &format!("{POD}---\n{PORTLESS}")).ok().out;
    let two: Value = serde_json::from_str(&two).unwrap();
    assert_eq!((&two["kind"], two["items"].as_array().unwrap().len()), (&json!("List"), 2));
    let yaml = lameduck("uninject -o yaml", "{\"apiVersion\": \"v1\", \"kind\": \"X\"}").ok().out;
    assert_eq!(yaml, "apiVersion: v1\nkind: X\n");
}

pub fn whose_reader_is_gone_are_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lameduck"))
        .args(["inject", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    // Only now: the stream is written once all of it was read.
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), POD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

pub fn strict_writes_nothing_if_something_was_skipped() {
    assert_eq!(lameduck("inject --strict", POD).code, 0);
    let ran = lameduck("inject --strict", &format!("{POD}---\n{PORTLESS}"));
    assert_eq!(ran.code, 2, "{ran:?}");
    // In a pipe to kubectl, what is written is applied.
    assert_eq!(ran.out, "");
    assert!(ran.err.contains("pod/b: skipped: no-named-port: "), "{}", ran.err);
    let end = "error: nothing is written, because of --strict: pod/b skipped\n";
    assert!(ran.err.ends_with(end), "{}", ran.err);
    let injected = lameduck("inject", POD).ok().out;
    assert_eq!(lameduck("inject --strict", &injected).code, 0);
    let opted_out = POD.replace("{name: a}", "{name: a, labels: {lameduck.dev/inject: disabled}}");
    assert_eq!(lameduck("inject --strict", &opted_out).code, 0);
    assert_eq!(lameduck("inject --strict --only-labelled", POD).code, 0);
}

/// A Rollout that refers to a Deployment has no template; the Deployment is injected where it is.
pub fn strict_takes_a_rollout_for_what_it_refers_to() {
    let rollout = |kind: &str, version: &str| {
        format!(
            "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: r}}\nspec: {{workloadRef: {{apiVersion: \
             {version}, kind: {kind}, name: web}}}}\n"
        )
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec: {containers: \
                      [{name: a, image: i, ports: [{name: http, containerPort: 8080}]}]}\n";
    let of_deployment = rollout("Deployment", "apps/v1");
    let elsewhere = deployment.replace("{name: web}", "{name: web, namespace: other}");
    let absent = "its pods are those of deployment/web, which is not among these manifests: inject it where it is\n";
    for (stream, code, told) in [
        (
            format!("{deployment}{of_deployment}"),
            0,
            "its pods are those of deployment/web, which is told here for itself\n",
        ),
        (of_deployment.clone(), 0, absent),
        (format!("{elsewhere}{of_deployment}"), 0, absent),
        (
            rollout("PodTemplate", "v1"),
            2,
            "its pods are those of podtemplate/web, which is of no kind that can be injected\n",
        ),
        (of_deployment.replace("workloadRef", "x"), 2, "it has no spec.template\n"),
    ] {
        let ran = lameduck("inject --strict", &stream);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(
            ran.err.contains(&format!("rollout/r: skipped: no-template: {told}")),
            "{}",
            ran.err
        );
    }
}

pub fn of_a_cluster_that_apply_would_mix_are_told() {
    let object = |kind: &str, name: &str, metadata: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, {metadata}}}\nspec:\n  template:\n    spec: {{containers: \
             [{{name: a, image: i, ports: [{{name: http, containerPort: 8080}}]}}]}}\n"
        )
    };
    let applied = "annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}";
    let told = "not made by kubectl apply: write";
    for metadata in ["uid: 8b1f", "resourceVersion: '7'"] {
        let live = object("Deployment", "a", metadata);
        let ran = lameduck("inject", &live).ok();
        assert!(
            ran.err.contains(
                "warning: deployment/a: it was not made by kubectl apply: write it back with kubectl replace, apply would \
                 mix the old ports with the new\n"
            ),
            "{}",
            ran.err
        );
        // What was taken out of it is taken over the old ports, too.
        assert!(lameduck("uninject", &ran.out).ok().err.contains(told));
        assert!(!lameduck("inject", &ran.out).ok().err.contains(told));
        let applied = object("Deployment", "a", &format!("{metadata}, {applied}"));
        assert!(!lameduck("inject", &applied).ok().err.contains(told));
        let skipped = live.replace("http,", "redis,");
        assert!(!lameduck("inject", &skipped).ok().err.contains(told));
    }
    assert!(!lameduck("inject", &object("Deployment", "a", "labels: {}")).ok().err.contains(told));
    let live = |kind, name| object(kind, name, "uid: '1'");
    let three = live("Deployment", "a") + &live("StatefulSet", "b") + &live("DaemonSet", "c");
    let ran = lameduck("inject", &three).ok();
    assert_eq!(ran.err.matches(told).count(), 1, "{}", ran.err);
    assert!(ran.err.contains("it and 2 other objects were not made"), "{}", ran.err);
    // Neither can be changed where it is.
    let pod = POD.replace("{name: a}", "{name: a, uid: x}");
    let job = live("Job", "a").replace("apps/v1", "batch/v1");
    assert!(!lameduck("inject", &(pod + &job)).ok().err.contains(told));
}

pub fn wrong_usage_is_64() {
    for line in [
        "inject --kube-version 2",
        "inject --set x",
        "inject --set nonsense=1",
        "inject --set drain-timeout=soon",
        "inject -o text",
        "inject file.yaml",
        "uninject --strict",
        "inject --hook-token ä",
    ] {
        let ran = lameduck(line, POD);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{line}: {}", ran.err);
    }
    let told = lameduck("inject --set drain-timeout=soon", POD).err;
    assert!(told.contains("drain-timeout=soon: expected "), "{told}");
}

pub fn only_labelled_goes_by_the_label_and_the_namespace() {
    let namespace = |label: &str| match label {
        "" => "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns}\n---\n".to_owned(),
        label => format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns, labels: {{lameduck.dev/inject: {label}}}}}\n---\n"
        ),
    };
    let pod = |label: &str| {
        let label = if label.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{lameduck.dev/inject: {label}}}")
        };
        POD.replace("{name: a}", &format!("{{name: a, namespace: ns, labels: {label}}}"))
    };
    for (of_namespace, of_pod, labelled, all) in [
        ("enabled", "", true, true),
        ("enabled", "enabled", true, true),
        ("enabled", "disabled", false, false),
        ("", "enabled", true, true),
        ("", "", false, true),
        ("", "disabled", false, false),
        ("disabled", "enabled", true, true),
        ("disabled", "", false, false),
    ] {
        let stream = namespace(of_namespace) + &pod(of_pod);
        for (line, wanted) in [("inject --only-labelled", labelled), ("inject", all)] {
            let ran = lameduck(line, &stream).ok();
            let is_injected = ran.err.starts_with("pod/a -n ns: injected (");
            assert_eq!(is_injected, wanted, "{line} {of_namespace:?} {of_pod:?}: {}", ran.err);
        }
    }
}

pub fn opting_out_without_quotes_is_told() {
    for (value, text) in [("false", "false"), ("off", "false"), ("no", "false"), ("0", "0")] {
        let labelled = format!("{{name: a, labels: {{lameduck.dev/inject: {value}}}}}");
        let told = format!(
            ": the label lameduck.dev/inject: {text} is no text, and the API server refuses it"
        );
        let ran = lameduck("inject", &POD.replace("{name: a}", &labelled)).ok();
        assert!(ran.err.contains(&format!("warning: pod/a{told}")), "{}", ran.err);
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {labelled}\n");
        let ran = lameduck("inject", &namespace).ok();
        assert!(ran.err.contains(&format!("warning: namespace/a{told}")), "{}", ran.err);
    }
    for (value, reason) in [("'disabled'", "opted-out"), ("'false'", "invalid-config")] {
        let labels = format!("{{name: a, labels: {{lameduck.dev/inject: {value}}}}}");
        let ran = lameduck("inject", &POD.replace("{name: a}", &labels)).ok();
        let skipped = format!("pod/a: skipped: {reason}");
        assert!(ran.err.starts_with(&skipped) && !ran.err.contains("warning"), "{}", ran.err);
    }
}

pub fn every_kind_is_injected() {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": values(POD)[0]["spec"]});
    for (version, kind) in [
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("v1", "ReplicationController"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("argoproj.io/v1alpha1", "Rollout"),
    ] {
        let spec = match kind {
            "CronJob" => json!({"jobTemplate": {"spec": {"template": template}}}),
            _ => json!({"template": template, "unknown": {"kept": [1, "on"]}}),
        };
        let object =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
        let ran = lameduck("inject -o json", &object.to_string()).ok();
        assert!(
            ran.err.starts_with(&format!("{}/x: injected (native sidecar, ", kind.to_lowercase())),
            "{}",
            ran.err
        );
        let written: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(written["spec"].get("unknown"), object["spec"].get("unknown"));
        assert_eq!(values(&lameduck("uninject", &ran.out).ok().out), [object]);
    }
    let ran = lameduck(
        "inject",
        r#"{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "x"},
        "spec": {"workloadRef": {"kind": "Deployment", "name": "web"}}}"#,
    )
    .ok();
    assert!(
        ran.err
            .starts_with("rollout/x: skipped: no-template: its pods are those of deployment/web"),
        "{}",
        ran.err
    );
}

pub fn a_version_that_is_assumed_is_told() {
    let note = "note: Kubernetes 1.36 is assumed";
    let assumed = exactly("inject", POD).ok();
    assert!(assumed.err.contains(note), "{}", assumed.err);
    assert_eq!(assumed.out, lameduck("inject", POD).ok().out);
    for line in [
        "inject --kube-version 1.36",
        "inject --native-sidecar true",
        "inject --set native-sidecar=false",
    ] {
        let ran = exactly(line, POD).ok();
        assert!(!ran.err.contains("note:"), "{line}: {}", ran.err);
    }
    assert!(!exactly("inject", "a: 1\n").ok().err.contains("note:"));
}

pub fn options_are_choices() {
    let ran =
        lameduck("inject --image example.com/x:1 --set drain-timeout=20s --kube-version 1.30", POD)
            .ok();
    assert!(ran.out.contains("image: example.com/x:1\n"), "{}", ran.out);
    assert!(
        ran.err.contains("(ordinary container, ") || !ran.err.contains("native"),
        "{}",
        ran.err
    );
    let ran = lameduck("inject --hook-token s3cret", POD).ok();
    assert!(ran.out.contains("s3cret"), "{}", ran.out);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let line = format!("inject --hook-token-file {}", file.display());
    for (content, token) in [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("s3cret", "s3cret")]
    {
        fs::write(&file, content).unwrap();
        let given = lameduck(&format!("inject --hook-token {token}"), POD).ok().out;
        assert_eq!(lameduck(&line, POD).ok().out, given, "{content:?}");
    }
    let long = "x".repeat(5_000);
    for content in ["", "\n", "s3cret\n\n", "s3 cret", "ä", long.as_str()] {
        fs::write(&file, content).unwrap();
        let ran = lameduck(&line, POD);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{content:?}: {}", ran.err);
        assert!(ran.err.contains("token: expected 1 to "), "{content:?}: {}", ran.err);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(lameduck(&line, POD).code, 64);
    assert_eq!(lameduck(&format!("{line} --hook-token x"), POD).code, 64);
    let unnamed = POD.replace("name: http, ", "");
    let ran = lameduck("inject", &unnamed).ok();
    assert!(ran.err.contains("skipped: no-named-port"), "{}", ran.err);
    let ran = lameduck("inject --name-port 8080=http", &unnamed).ok();
    assert!(ran.err.starts_with("pod/a: injected ("), "{}", ran.err);
    assert_eq!(values(&lameduck("uninject", &ran.out).ok().out), values(&unnamed));
}

pub fn services_and_policies_are_told() {
    let pod = POD.replace("{name: a}", "{name: a, labels: {app: a}}");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: a}, ports: [{port: 8080}]}\n";
    let ran = lameduck("inject", &(pod.clone() + service)).ok();
    assert!(ran.out.ends_with(service), "{}", ran.out);
    assert!(ran.err.contains("\nwarning: service/s: port 8080 leads to number 8080, past the sidecar of pod/a; write targetPort: http\n"), "{}", ran.err);
    assert!(ran.err.ends_with("1 injected, 1 warning\n"), "{}", ran.err);
    let injected_before = lameduck("inject --fix-services", &ran.out).ok();
    assert!(
        injected_before.err.contains("service/s: fixed (port 8080 leads to http)\n"),
        "{}",
        injected_before.err
    );
    let undone = lameduck("uninject", &injected_before.out).ok().out;
    assert_eq!(values(&undone), values(&(pod + service)));
}

/// Behind the Service are pods that opted out, too, and a name must lead in all of them to where the number led.
pub fn services_are_fixed_only_if_the_name_leads_there_everywhere() {
    let pod = POD.replace("{name: a}", "{name: a, labels: {app: a}}");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: a}, ports: [{port: 80, targetPort: 8080}]}\n";
    for (ports, fixed) in [
        ("{name: http, containerPort: 9090}, {name: app, containerPort: 8080}", false),
        ("{name: app, containerPort: 8080}", false),
        ("{name: http, containerPort: 8080}", true),
    ] {
        let other = pod
            .replace("name: a, labels: {", "name: b, labels: {lameduck.dev/inject: disabled, ")
            .replace("{name: http, containerPort: 8080}", ports);
        let ran = lameduck("inject --fix-services", &format!("{pod}---\n{other}{service}")).ok();
        assert_eq!(ran.out.ends_with(service), !fixed, "{ports}: {}", ran.err);
        let told = if fixed { "service/s: fixed (port 80 leads to http)" } else { "in pod/b" };
        let told = if ports.starts_with("{name: app") { "once pod/b has" } else { told };
        assert!(ran.err.contains(told), "{ports}: {}", ran.err);
    }
    let elsewhere = service.replace("{name: s}", "{name: s, namespace: default}");
    let ran = lameduck("inject --fix-services", &format!("{pod}{elsewhere}")).ok();
    assert!(ran.out.ends_with(&elsewhere), "{}", ran.out);
    let told =
        "past the sidecar of pod/a (if both are in namespace default); write targetPort: http\n";
    assert!(ran.err.contains(told), "{}", ran.err);
}

/// Kubernetes takes the first port of a name, which may be one of a container that is left alone.
pub fn names_that_lead_to_another_container_are_told() {
    let pod = POD.replace("{name: a}", "{name: a, labels: {app: a}}").replace(
        "  - {",
        "  - {name: istio-proxy, image: i, ports: [{name: http, containerPort: 15090}]}\n  - {",
    );
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: a}, ports: [{port: 80, targetPort: http}]}\n";
    let ran = lameduck("inject", &format!("{pod}{service}")).ok();
    let told = "warning: service/s: port 80 leads to http, which in pod/a is port 15090 of container istio-proxy";
    assert!(ran.err.contains(told), "{}", ran.err);
    let alone = pod.replace("http, containerPort: 15090", "stats, containerPort: 15090");
    let ran = lameduck("inject", &format!("{alone}{service}")).ok();
    assert!(!ran.err.contains("service/s"), "{}", ran.err);
}

pub fn what_is_doubtful_is_refused_only_if_written_anew() {
    let doubtful = "---\napiVersion: v1\nkind: ConfigMap\ndata: {a: x, a: y}\n";
    let ran = lameduck("inject", &format!("{POD}{doubtful}")).ok();
    assert!(ran.out.ends_with(doubtful), "{}", ran.out);
    assert!(
        ran.err.contains(
            "warning: standard input:8: line 10: the key `a` stands here for the second time"
        ),
        "{}",
        ran.err
    );
    for (data, told) in [
        ("{1.5: a}", "1.5 can't be a key"),
        ("{1e3: a}", "1000.0 can't be a key"),
        ("{~: a}", "null can't be a key"),
        ("{a: \u{feff}b}", "a byte order mark"),
        ("{a: .nan}", "JSON has no .nan"),
        ("{a: !!int x}", "`x` is no int"),
        ("{<<: 1}", "`<<` takes a mapping"),
    ] {
        let doubtful = format!("---\napiVersion: v1\nkind: ConfigMap\ndata: {data}\n");
        let ran = lameduck("inject", &format!("{POD}{doubtful}")).ok();
        assert!(ran.out.ends_with(&doubtful), "{data}: {}", ran.out);
        assert!(
            ran.err.contains(&format!("standard input:8: line 10: {told}")),
            "{data}: {}",
            ran.err
        );
        let pod = POD.replace("  containers", &format!("  x: {data}\n  containers"));
        let (out, err) = lameduck("inject", &pod).ran_badly();
        assert!(out.is_empty() && err.contains(&format!("line 5: {told}")), "{data}: {err}");
    }
    let half = r#"{"apiVersion":"v1","kind":"Secret","x":"\ud800"}"#;
    assert_eq!(lameduck("inject", half).ok().out, half);
    let pod = POD.replace("{name: a}", "{name: a, name: b}");
    let (out, err) = lameduck("inject", &pod).ran_badly();
    assert!(
        out.is_empty() && err.starts_with("lameduck: standard input: line 3: the key `name`"),
        "{err}"
    );
}

// === impl Ran ===

impl crate::command::Ran {
    /// Output and complaint of a run that was refused.
    #[track_caller]
    fn ran_badly(self) -> (String, String) {
        assert_eq!(self.code, 1, "{self:?}");
        (self.out, self.err)
    }
}

pub fn uninject_tells_what_was_edited_since() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: web, \
               ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 7}}]}\n";
    let injected = lameduck("inject", pod).ok().out;
    let undone = lameduck("uninject", &injected).ok();
    assert_eq!(undone.err, "pod/web -n shop: restored\n1 restored\n");
    let edited = injected.replace("periodSeconds: 7\n    l", "periodSeconds: 9\n    l");
    assert_ne!(edited, injected);
    let told = lameduck("uninject", &edited).ok();
    let warning = "warning: pod/web -n shop: readinessProbe of web was edited since the injection; that is lost, it is \
                   what it was before\n";
    assert_eq!(told.err, format!("pod/web -n shop: restored\n{warning}1 restored, 1 warning\n"));
    assert_eq!(told.out, undone.out);
}

/// Whoever applies what comes out would have a pod whose ports lead nowhere.
pub fn uninject_refuses_what_it_cannot_undo() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: web, \
               ports: [{name: http, containerPort: 8080}]}]}\n";
    let injected = lameduck("inject", pod).ok().out;
    let line = injected.lines().find(|line| line.contains("lameduck.dev/original:")).unwrap();
    let indent = &line[..line.len() - line.trim_start().len()];
    let broken = format!("{indent}lameduck.dev/original: '{{'");
    for (instead, what) in [(String::new(), "is missing"), (broken, "can't be read")] {
        let input = injected.replace(line, &instead) + "---\n" + &injected;
        let (out, err) = lameduck("uninject", &input).ran_badly();
        assert_eq!(out, "", "{what}");
        let told =
            format!("pod/web -n shop: not restored: its annotation lameduck.dev/original {what}, ");
        assert!(err.starts_with(&told), "{err}");
        assert!(err.ends_with("1 restored, 1 not restored\n"), "{err}");
    }
}

pub fn uninject_keeps_what_became_of_a_service() {
    let pod = POD.replace("{name: a}", "{name: a, labels: {app: a}}");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: a}, ports: [{port: 80, targetPort: 8080}, \
                   {port: 81, targetPort: 8080}, {port: 82, targetPort: 8080}]}\n";
    let fixed = lameduck("inject --fix-services", &format!("{pod}{service}")).ok().out;
    let mut values = values(&fixed);
    let ports = values[1]["spec"]["ports"].as_array_mut().unwrap();
    assert_eq!(ports[1]["targetPort"], "http");
    ports[1]["targetPort"] = "other".into();
    ports.remove(2);
    // As the API server gives it back.
    ports[0]["protocol"] = "TCP".into();
    let edited = format!("{}\n{}\n", values[0], values[1]);
    let ran = lameduck("uninject", &edited).ok();
    let restored: Value =
        serde_json::Deserializer::from_str(&ran.out).into_iter().nth(1).unwrap().unwrap();
    let wanted = json!([
        {"port": 80, "targetPort": 8080, "protocol": "TCP"}, {"port": 81, "targetPort": "other"},
    ]);
    assert_eq!(restored["spec"]["ports"], wanted);
    assert_eq!(restored["metadata"], json!({"name": "s"}));
    for warning in [
        "port 81 leads to other, which somebody wrote since; it stays",
        "port 82 is gone since; that it led to 8080 can't be restored",
    ] {
        let line = format!("warning: service/s: {warning}\n");
        assert!(ran.err.contains(&line), "{}", ran.err);
    }
}
