package window
import ("testing";"math";"math/rand/v2";"fmt";"slices")
func TestHack(t *testing.T){
 type fnd struct{r float64; s string}
 var all []fnd
 for i:=range 700 {
  rng := rand.New(rand.NewPCG(uint64(i), 3))
		n := 1 + rng.IntN(4)
		before := 0
		d := 1 + rng.IntN(9000)
		damping := math.Pow(10, -10*rng.Float64())
		rk, vk := "constant", vecKinds[rng.IntN(len(vecKinds))]
		c:=makeCase(uint64(i), rk, vk, comKinds[i%5], n, before, d, damping, Divisor(i%2))
		sc:=rng.NormFloat64()
		for k:=range c.rows { s:=sc*float64(1+rng.IntN(3)); if i%4==0 {s=rng.NormFloat64()}; for j:=range c.rows[k]{c.rows[k][j]=float64(float32(s))} }
		if i%3==0 { s:=rng.NormFloat64(); for j:=range c.v{c.v[j]=s}}
		c.width=d
	 r:=c.run(t)
	 if r.ill {continue}
	 all=append(all,fnd{r.worst(),fmt.Sprintf("i=%d n=%d d=%d vk=%s λ=%.2g %+v",i,n,d,vk,damping,r)})
 }
 slices.SortFunc(all,func(a,b fnd)int{return -compare(a.r,b.r)})
 for _,f:=range all[:25]{t.Logf("%.2f %s",f.r,f.s)}
}
