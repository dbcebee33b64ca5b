const [enc, B, threads, steps] = [process.argv[2], +process.argv[3], +process.argv[4], +process.argv[5]];
const { configureEngine } = await import('/work/main/dist/src/engine/environment.js');
configureEngine({ threads });
const { tf } = await import('/work/main/dist/src/engine/index.js');
const { resnet, initialParameters } = await import('/work/main/dist/src/models/index.js');
const { mocoStep, } = await import('/work/main/dist/src/objectives/moco.js');
const { normalise } = await import('/work/main/dist/src/objectives/infonce.js');
const e = resnet({ encoder: enc, stem: '3x3', head: 'linear', embeddingDim: 128 });
const flat = initialParameters(e.layout, 0);
const split = () => e.layout.parameters.map(s => tf.tensor(flat.subarray(s.offset, s.offset + s.size), s.shape));
const imgs = [tf.randomNormal([B,32,32,3],0,1,'float32',1), tf.randomNormal([B,32,32,3],0,1,'float32',2)];
const queue = normalise(tf.randomNormal([4096,128]));

const bk = tf.backend(); const o = bk.binding; const P = Object.create(o); let stat = new Map(); let on=false;
Object.defineProperty(P,'executeOp',{value:(n,a,i,k)=>{const t0=performance.now();const r=o.executeOp(n,a,i,k);const d=performance.now()-t0; if(on){const key=n+' '+JSON.stringify(r[0].shape);const s=stat.get(key)??[0,0];s[0]+=d;s[1]++;stat.set(key,s);} return r;}});
Object.defineProperty(P,'createTensor',{value:(...a)=>o.createTensor(...a)});Object.defineProperty(P,'deleteTensor',{value:(...a)=>o.deleteTensor(...a)});Object.defineProperty(P,'tensorDataSync',{value:(...a)=>o.tensorDataSync(...a)});
bk.binding=P; const ts=[];
for (let i=0;i<steps;i++){ on=i>0;const t=performance.now();
  const q=split(),k=split();
  const r=mocoStep({encoder:e,query:q,key:k,queryViews:imgs[0],keyViews:imgs[1],queue,temperature:.1,bnSplits:1,keyShuffle:null});
  const l=r.loss.dataSync()[0]; r.gradients.forEach(g=>g.dataSync());
  tf.dispose([q,k,r]); ts.push(performance.now()-t);
  if(i==0||i==steps-1)console.log(i,l,tf.memory().numTensors, (process.memoryUsage().rss/1e6)|0);
}
ts.sort((a,b)=>a-b);const m=ts[ts.length>>1];console.log(enc,B,threads,'ms',m.toFixed(0),'img/s',(B/m*1e3).toFixed(1));

let tot=0;for(const [k,v] of stat)tot+=v[0]; console.log('inside ops per step',(tot/(steps-1)).toFixed(0));
for(const [k,v] of [...stat].sort((a,b)=>b[1][0]-a[1][0]).slice(0,28)) console.log((v[0]/(steps-1)).toFixed(1).padStart(7),(v[1]/(steps-1)).toString().padStart(4),k);