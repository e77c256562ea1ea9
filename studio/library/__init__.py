"""The library: LoRAs that were looked at, approved and given a recommended weight."""
