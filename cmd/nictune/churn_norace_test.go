//go:build !race

package main

// churnTimes is how often the host is inventoried and scraped while devices come
// and go.
const churnTimes = 500
