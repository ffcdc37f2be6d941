//! The defaults: those that the design promises, one line each.

use serde_json::{Value, json};

use crate::{helm::text, tools::Tools};

/// The table of values in the design. Sets of keys that it gives one default for are written out.
#[allow(clippy::too_many_lines, reason = "a table")]
fn promised() -> Value {
    json!({
        "nameOverride": "", "fullnameOverride": "", "commonLabels": {}, "commonAnnotations": {},
        "kubeVersionOverride": "", "extraObjects": [],
        "global": {"imageRegistry": "", "imagePullSecrets": []},
        "image": {
            "registry": "ghcr.io", "repository": "lameduck/lameduck", "tag": "", "digest": "",
            "pullPolicy": "IfNotPresent",
        },
        "injector": {
            "replicas": 2, "port": 10250, "healthPort": 8081, "logLevel": "info", "logFormat": "json",
            "nodeSelector": {}, "tolerations": [], "affinity": {}, "priorityClassName": "",
            "podAnnotations": {}, "podLabels": {}, "extraEnv": [], "strategy": {},
            "hostNetwork": false, "dnsPolicy": "",
            "podDisruptionBudget": {
                "enabled": true, "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
            "autoscaling": {
                "enabled": false, "minReplicas": 2, "maxReplicas": 5,
                "targetCPUUtilizationPercentage": 80,
            },
            "networkPolicy": {"enabled": false, "extraIngress": [], "extraEgress": []},
        },
        "serviceAccount": {"create": true, "name": "", "annotations": {}},
        "rbac": {"create": true},
        "webhook": {
            "enabled": true, "failurePolicy": "Ignore", "timeoutSeconds": 5,
            "reinvocationPolicy": "IfNeeded", "matchPolicy": "Equivalent", "annotations": {},
            "labels": {}, "excludedNamespaces": ["kube-system", "kube-public", "kube-node-lease"],
            "namespaceSelector": {}, "objectSelector": {}, "matchConditions": [],
            "invalidConfig": "warn",
            "certs": {"mode": "selfManaged", "existingSecret": "", "caBundle": ""},
        },
        "proxy": {
            "image": {"registry": "", "repository": "", "tag": "", "digest": "", "pullPolicy": ""},
            "nativeSidecar": "auto", "capture": "renumber", "adminPort": 15800, "portBase": 15801,
            "upstreamHost": "pod-ip",
            "drain": {"timeout": "60s", "min": "5s", "quiet": "2s", "containerTimeout": "5s"},
            "terminationGracePeriod": "extend",
            "readiness": {"mode": "rewrite", "onTermination": "keep", "upstreamCheck": "tcp"},
            "prestop": {"mode": "auto", "containers": "all"},
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"},
            },
            "securityContext": {}, "maskServiceAccountToken": false, "runAsUser": null, "imagePullSecrets": [], "extraEnv": {},
            "logLevel": "info",
        },
        "metrics": {
            "serviceMonitor": {"enabled": false}, "podMonitor": {"enabled": false},
            "prometheusRule": {"enabled": false}, "dashboard": {"enabled": false},
        },
        "tests": {"enabled": true},
    })
}

/// A map may hold more than is promised; the top level may not.
pub(crate) fn defaults_are_those_of_the_design(_: &Tools) {
    let values: Value = serde_saphyr::from_str(&text("values.yaml")).unwrap();
    let promised = promised();
    compare("", &promised, &values);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&values), keys(&promised));
    let excluded = values["proxy"]["prestop"]["excludeContainers"].as_array().unwrap();
    assert!(excluded.contains(&json!("istio-proxy")));
    let injector = &values["injector"];
    assert_eq!(injector["podSecurityContext"]["runAsNonRoot"], true);
    assert_eq!(injector["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(injector["topologySpreadConstraints"][0]["whenUnsatisfiable"], "ScheduleAnyway");
}

#[track_caller]
fn compare(path: &str, promised: &Value, found: &Value) {
    match promised.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, value) in map {
                let place = format!("{path}.{key}");
                let found = found.get(key).unwrap_or_else(|| panic!("{place} is not there"));
                compare(&place, value, found);
            }
        }
        None => assert_eq!(promised, found, "{path}"),
    }
}
