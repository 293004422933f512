package kernel

const opPCINames = "look up in pci.ids"
