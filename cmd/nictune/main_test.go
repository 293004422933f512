package main

import (
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }
