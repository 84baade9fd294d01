"""Parses a page of metrics in Prometheus' text form and in OpenMetrics with the client library's own parsers.

usage: metrics.py URL
"""

import sys

import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_form


def families(accept, parse):
    response = requests.get(sys.argv[1], headers={"accept": accept}, timeout=60)
    response.raise_for_status()
    return {family.name: family for family in parse(response.text)}


plain = families("text/plain", text_form)
opened = families("application/openmetrics-text; version=1.0.0", open_metrics)
assert set(plain) == set(opened), set(plain) ^ set(opened)
for name, family in opened.items():
    assert family.documentation, name
    assert family.type in ("counter", "gauge", "histogram"), (name, family.type)
    assert plain[name].type == family.type, name
for name in ("weir_source_frame_latency_seconds", "weir_source_inference_seconds"):
    counts = {sample.labels.get("le"): sample.value for sample in opened[name].samples if sample.name.endswith("_bucket")}
    (count,) = [sample.value for sample in opened[name].samples if sample.name.endswith("_count")]
    assert counts["+Inf"] == count > 0, (name, counts)
print(len(opened), "families")
