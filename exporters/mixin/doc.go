// Package mixin is what a monitoring system needs beside the metrics: alerts, recording
// rules and dashboards about them, as the plain files that Prometheus and Grafana read.
//
//	alerts.yaml          alerts; docs/runbooks has a page for each
//	rules.yaml           recording rules that make large fleets cheap to ask about
//	tests*.yaml          when each alert fires and when it doesn't, for promtool
//	dashboards/*.json    Grafana dashboards for a host and for a fleet
//
// No Grafana has loaded the dashboards yet: tests hold that their expressions are PromQL
// over metrics that exist, and that their panels fit beside each other.
//
// There is no code here but tests: they hold the files against promtool and against the
// catalogue of metrics, and write the dashboards. No program reads the files either.
package mixin
