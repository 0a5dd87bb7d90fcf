// Package config reads the settings of the coordinator and the worker. A setting has one name in
// three places, here in the order of their strength:
//
//	--lease-ttl 20s        a flag
//	MFAC_LEASE_TTL=20s     the environment; nats_url is NATS_URL there
//	lease_ttl: 20s         a YAML file, which --config or MFAC_CONFIG names
//
// and a default. The main path is ForWorker or ForCoordinator, Flags, Load.
//
// A key of the file that is no setting is refused with its line, a variable MFAC_* that is none is
// warned of. An error names the setting, its value, where the value comes from, and the limit. An
// empty variable is as if it were not there.
package config
