const src = (await import('node:fs')).readFileSync('.b1.mjs','utf8').replace("const ts=[];", `
const bk = tf.backend(); const o = bk.binding; const P = Object.create(o); let stat = new Map(); let on=false;
Object.defineProperty(P,'executeOp',{value:(n,a,i,k)=>{const t0=performance.now();const r=o.executeOp(n,a,i,k);const d=performance.now()-t0; if(on){const key=n+' '+JSON.stringify(r[0].shape);const s=stat.get(key)??[0,0];s[0]+=d;s[1]++;stat.set(key,s);} return r;}});
Object.defineProperty(P,'createTensor',{value:(...a)=>o.createTensor(...a)});Object.defineProperty(P,'deleteTensor',{value:(...a)=>o.deleteTensor(...a)});Object.defineProperty(P,'tensorDataSync',{value:(...a)=>o.tensorDataSync(...a)});
bk.binding=P; const ts=[];`).replace('const t=performance.now();','on=i>0;const t=performance.now();')+`
let tot=0;for(const [k,v] of stat)tot+=v[0]; console.log('inside ops per step',(tot/(steps-1)).toFixed(0));
for(const [k,v] of [...stat].sort((a,b)=>b[1][0]-a[1][0]).slice(0,28)) console.log((v[0]/(steps-1)).toFixed(1).padStart(7),(v[1]/(steps-1)).toString().padStart(4),k);`;
(await import('node:fs')).writeFileSync('.b2.mjs',src);
