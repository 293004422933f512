package policies

// For the tests that need the real settings, whose package imports this one.
var (
	CompileSchema = compile
	ValidateBy    = validate
)
