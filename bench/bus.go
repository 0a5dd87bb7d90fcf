package main

func busFigures() []figure { return nil }
