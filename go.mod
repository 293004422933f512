module github.com/nictune/nictune

go 1.26.0
